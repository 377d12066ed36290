"""`firstseen history`: what the rules remember, read from Kafka and changed through Kafka."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.backfill import backfill
from pipeline.cli.exits import say_warning
from pipeline.cli.lazy import SuggestingGroup
from pipeline.cli.options import (
    EVENTS_FILE,
    SettingsFlags,
    json_option,
    rules_option,
    settings_options,
)
from pipeline.cli.output import confirmed, table, write_json, write_json_line
from pipeline.cli.status_line import StatusLine
from pipeline.clock import now_ms
from pipeline.errors import EXIT_FINDINGS, EXIT_OK, RuleError
from pipeline.terminal import printable

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.history import HistoryRow, ImportCounts
    from pipeline.rules import RuleSet

FORMATS = ("firstseen", "alerts", "aggregation", "events")


@click.group(cls=SuggestingGroup)
def history() -> None:
    """Inspect and change what the rules remember: which terms, since when, until when.

    The commands read the changelog topic and write changes to the observations topic, so they work
    while workers run. A change takes effect when a worker reaches its record.

    \b
    Examples:
      firstseen history list
      firstseen history export > seen.ndjson
      firstseen history import --format alerts kibana-alerts.ndjson
      firstseen history backfill --rule my-rule --since 14d
      firstseen history forget my-rule --old
    """


@history.command("list")
@click.argument("rule_id", metavar="[RULE_ID]", required=False)
@click.option(
    "--max",
    "limit",
    metavar="N",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="With RULE_ID: show N terms, the most recently seen first.",
)
@rules_option
@settings_options
@json_option
def list_history(
    *,
    settings_flags: SettingsFlags,
    rule_paths: tuple[Path, ...],
    rule_id: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List the histories; with RULE_ID, the terms that this rule saw most recently.

    A history belongs to a rule and its query. CURRENT says whether it is the rule's current one;
    `old` ones are no longer of any use, and `firstseen history forget RULE_ID --old` removes them.
    """
    settings = settings_flags.load(rules__paths=rule_paths or None)
    if rule_id is None:
        _list_histories(settings, as_json=as_json)
    else:
        rows = _read(settings, rule_id)
        latest = heapq.nlargest(limit, rows, key=lambda row: row.last_seen)
        if not latest:
            click.echo(f"nothing is remembered of a rule {printable(rule_id)}", err=True)
        _show_terms(latest, as_json=as_json)


@history.command()
@click.option("--rule", "rule_id", metavar="RULE_ID", help="Only what this rule remembers.")
@settings_options
def export(*, settings_flags: SettingsFlags, rule_id: str | None) -> None:
    """Write what is remembered to stdout, one JSON object per line.

    `firstseen history import` reads this output, on the same cluster or another one.
    """
    settings = settings_flags.load()
    written = 0
    for row in _read(settings, rule_id):
        write_json_line(row.to_json())
        written += 1
    click.echo(f"{written:,} terms exported", err=True)


@history.command("import")
@click.argument("files", metavar="FILES...", nargs=-1, required=True, type=EVENTS_FILE)
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    default="firstseen",
    show_default=True,
    help="What the files contain: an export of firstseen, alerts of Kibana's new_terms rules, "
    "Elasticsearch's responses to an aggregation, or events.",
)
@click.option(
    "--rule",
    "rule_id",
    metavar="RULE_ID",
    help="Only this rule learns. Required for `aggregation`, which does not name its rule.",
)
@click.option(
    "--into-current",
    is_flag=True,
    help="With `firstseen`: put terms of an old history into the rule's current one.",
)
@click.option(
    "--ignore-index",
    is_flag=True,
    help="With `events`: judge every event, whatever the rules' index patterns.",
)
@click.option("--dry-run", is_flag=True, help="Read and count, but send nothing.")
@rules_option
@settings_options
@json_option
def import_history(
    *,
    settings_flags: SettingsFlags,
    rule_paths: tuple[Path, ...],
    files: tuple[Path, ...],
    kind: str,
    rule_id: str | None,
    into_current: bool,
    ignore_index: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Teach the rules what was seen before, so that it raises no alert.

    FILES may be .gz or .zst; `-` is standard input. An import raises no alert, and repeating it
    changes nothing. Exit 1 if nothing could be learned. docs/history.md shows how to get such
    files out of Elasticsearch and Kibana.
    """
    if kind == "aggregation" and rule_id is None:
        raise click.UsageError("--format aggregation needs --rule: an aggregation names no rule")
    from pipeline.history import ImportReader  # noqa: PLC0415  (confluent-kafka is slow to import)
    from pipeline.replay import read_events  # noqa: PLC0415

    settings = settings_flags.load(
        rules__paths=rule_paths or None, rules__match_index=False if ignore_index else None
    )
    reader = ImportReader(
        _ruleset(settings),
        settings,
        now_ms=now_ms(),
        rule_id=rule_id,
        into_current=into_current,
    )
    learned = reader.read(kind, read_events(files))
    if dry_run:
        for _ in learned:
            pass
    else:
        _send(settings, learned)
    _report_import(reader.counts, dry_run=dry_run, as_json=as_json)
    return EXIT_OK if reader.counts.learned else EXIT_FINDINGS


@history.command()
@click.argument("rule_id", metavar="RULE_ID")
@click.argument("terms", metavar="[TERM]...", nargs=-1)
@click.option(
    "--old", is_flag=True, help="Only old histories, from before the rule's query changed."
)
@click.option("--dry-run", is_flag=True, help="Show what would be forgotten, but send nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before forgetting whole histories.")
@rules_option
@settings_options
@json_option
def forget(
    *,
    settings_flags: SettingsFlags,
    rule_paths: tuple[Path, ...],
    rule_id: str,
    terms: tuple[str, ...],
    old: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Forget a rule's history, or one tuple of terms, which is new when next seen.

    TERM... are the values of the rule's new-terms fields, in order, as `firstseen history
    list RULE_ID` shows them. Exit 1 if nothing is forgotten.
    """
    settings = settings_flags.load(rules__paths=rule_paths or None)
    if terms and old:
        raise click.UsageError("give TERM... or --old, not both")
    if terms:
        forgotten = _forget_tuple(settings, rule_id, terms, dry_run=dry_run)
    else:
        current = _current(_ruleset(settings), rule_id) if old else None
        found = Counter(row.history for row in _read(settings, rule_id) if row.history != current)
        if found and not (dry_run or yes):
            what = "old histories" if old else "the whole history"
            if not confirmed(f"Forget {what} of {rule_id} ({found.total():,} terms)?"):
                return EXIT_FINDINGS
        forgotten = _forget_histories(settings, rule_id, found, dry_run=dry_run)
    _report_forget(rule_id, forgotten, terms=terms, dry_run=dry_run, as_json=as_json)
    return EXIT_OK if forgotten else EXIT_FINDINGS


def _ruleset(settings: Settings) -> RuleSet:
    from pipeline.cli.loading import load_fields, read_rules  # noqa: PLC0415  (as above)

    return read_rules(settings.rules.paths, load_fields(settings.rules.fields)).ruleset


def _current(ruleset: RuleSet, rule_id: str) -> str:
    compiled = ruleset.get(rule_id)
    if compiled is None:
        raise RuleError(
            f"{rule_id} is not among the rules, so it has no current history; without --old the "
            f"whole rule is forgotten"
        )
    return compiled.history_id


def _read(settings: Settings, rule_id: str | None) -> Iterator[HistoryRow]:
    """Yield rows, and show the progress on the status line."""
    from pipeline.history import read_history  # noqa: PLC0415  (as above)

    status = StatusLine()

    def progress(records: int, partitions: int) -> None:
        status.show(f"{records:,} records read · {partitions} partitions to go")

    try:
        yield from read_history(settings, rule_id=rule_id, on_progress=progress)
    finally:
        status.clear()


def _list_histories(settings: Settings, *, as_json: bool) -> None:
    ruleset = _ruleset(settings)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in _read(settings, None):
        entry = found.setdefault(
            (row.rule_id, row.history),
            {
                "rule_id": row.rule_id,
                "history": row.history,
                "current": _state(ruleset, row),
                "terms": 0,
                "first_seen": row.first_seen,
                "last_seen": row.last_seen,
            },
        )
        entry["terms"] += 1
        entry["first_seen"] = min(entry["first_seen"], row.first_seen)
        entry["last_seen"] = max(entry["last_seen"], row.last_seen)
    entries = [found[key] for key in sorted(found)]
    if as_json:
        write_json(entries)
        return
    rows = [[f"{v:,}" if isinstance(v, int) else v for v in entry.values()] for entry in entries]
    header = ("RULE", "HISTORY", "CURRENT", "TERMS", "FIRST SEEN", "LAST SEEN")
    table(header, rows, right=[3])


def _state(ruleset: RuleSet, row: HistoryRow) -> str:
    """Return whether a row's history is the one that its rule has now."""
    compiled = ruleset.get(row.rule_id)
    if compiled is None:
        return "no rule"
    return "current" if compiled.history_id == row.history else "old"


def _show_terms(rows: list[HistoryRow], *, as_json: bool) -> None:
    if as_json:
        write_json([json.loads(row.to_json()) for row in rows])
        return
    shown = [
        (
            row.last_seen,
            row.first_seen,
            f"{row.count:,}",
            row.history,
            " ".join(json.dumps(_text(term), ensure_ascii=False) for term in row.terms),
        )
        for row in rows
    ]
    table(("LAST SEEN", "FIRST SEEN", "COUNT", "HISTORY", "TERMS"), shown, right=[2])


def _text(term: object) -> str:
    """Return a term as one gives it to `forget`."""
    return term if isinstance(term, str) else json.dumps(term)


def _send(settings: Settings, learned: Iterable[Any]) -> None:
    from pipeline.history import Sender  # noqa: PLC0415  (as above)

    status = StatusLine()
    with Sender(settings) as sender:
        for number, record in enumerate(learned, 1):
            sender.learn(record)
            if number % 1_000 == 0:
                status.show(f"{number:,} terms sent")
    status.clear()


def _report_import(counts: ImportCounts, *, dry_run: bool, as_json: bool) -> None:
    summary = {**counts.summary(), "dry_run": dry_run}
    if as_json:
        write_json(summary)
        return
    rows = [("Read", f"{counts.read:,}")]
    rows += [(f"Learned by {rule}", f"{n:,}") for rule, n in sorted(counts.learned.items())]
    rows += [(f"Skipped: {reason}", f"{n:,}") for reason, n in counts.skipped.most_common()]
    table(("DRY RUN" if dry_run else "IMPORT", ""), rows, right=[1])
    if counts.unused:
        say_warning(
            f"{counts.unused.total():,} of them are of a history that no rule has now: the rule "
            "has changed (--into-current puts them into the one it has) or is not among these "
            "(--rules)"
        )


def _forget_tuple(
    settings: Settings, rule_id: str, terms: tuple[str, ...], *, dry_run: bool
) -> Counter[str]:
    """Forget a tuple in every history of the rule that has it; return the rows per history."""
    rows = [
        row for row in _read(settings, rule_id) if tuple(_text(term) for term in row.terms) == terms
    ]
    if rows and not dry_run:
        from pipeline.history import Sender  # noqa: PLC0415  (as above)

        with Sender(settings) as sender:
            for row in rows:
                sender.forget_row(rule_id, row.history, row.key())
    return Counter(row.history for row in rows)


def _forget_histories(
    settings: Settings, rule_id: str, found: Counter[str], *, dry_run: bool
) -> Counter[str]:
    if found and not dry_run:
        from pipeline.history import Sender  # noqa: PLC0415  (as above)

        with Sender(settings) as sender:
            for history_id in found:
                sender.forget_history(rule_id, history_id)
    return found


def _report_forget(
    rule_id: str, forgotten: Counter[str], *, terms: tuple[str, ...], dry_run: bool, as_json: bool
) -> None:
    if as_json:
        write_json(
            {
                "rule_id": rule_id,
                "terms": forgotten.total(),
                "histories": dict(sorted(forgotten.items())),
                "dry_run": dry_run,
            }
        )
    elif not forgotten and terms:
        click.echo(
            f"{rule_id} remembers no such terms: give a value for each of its new-terms fields, as "
            f"`firstseen history list {rule_id}` shows them",
            err=True,
        )
    elif not forgotten:
        click.echo(f"nothing is remembered for {rule_id}", err=True)
    else:
        verb = "would be forgotten" if dry_run else "are being forgotten"
        table(
            ("HISTORY", "TERMS"),
            [(each, f"{count:,}") for each, count in sorted(forgotten.items())],
            right=[1],
        )
        click.echo(f"{forgotten.total():,} terms {verb}", err=True)


history.add_command(backfill)
