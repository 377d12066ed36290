"""`firstseen replay`: runs files of events through the rules, without Kafka."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import click

from pipeline.cli.loading import load_fields, load_rules_to_run
from pipeline.cli.options import EVENTS_FILE, fields_option, rules_option
from pipeline.cli.output import table, write_json_line
from pipeline.cli.progress import ReadingProgress
from pipeline.cli.status_line import StatusLine
from pipeline.clock import now_ms
from pipeline.engine.tables import MemoryTable
from pipeline.errors import EXIT_FINDINGS, EXIT_OK
from pipeline.replay import EventLine, Replay, ReplaySettings, ReplayStats, RocksTable, read_events
from pipeline.rules import RuleSet
from pipeline.terminal import printable


@click.command()
@click.argument("events", metavar="EVENTS...", nargs=-1, required=True, type=EVENTS_FILE)
@rules_option
@fields_option
@click.option(
    "--state",
    "state_directory",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps what was seen, for a later replay; otherwise it is forgotten.",
)
@click.option(
    "--ignore-index", is_flag=True, help="Judge every event, whatever the rules' index patterns."
)
@click.option(
    "--strict",
    is_flag=True,
    help="Exit 1 if a line could not be processed. Every line is then decoded, even if no rule "
    "can match it.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Write the summary as JSON, as the last line on stderr, and no progress. "
    "Alerts are always JSON.",
)
def replay(
    *,
    events: tuple[Path, ...],
    rule_paths: tuple[Path, ...],
    fields_file: Path | None,
    state_directory: Path | None,
    ignore_index: bool,
    strict: bool,
    as_json: bool,
) -> int:
    """Read events from files; write the alerts to stdout, one JSON document per line.

    EVENTS are files with one JSON event per line, ordered by time; they may be .gz or .zst, and
    `-` is standard input. Progress and a summary go to stderr. There is no quota: every new term
    raises an alert. The same files give the same alerts with the same ids, unless --state already
    knows them.

    \b
    Examples:
      firstseen replay events.ndjson.zst > alerts.ndjson
      firstseen replay --rules my-rules/ --state ./seen monday.ndjson tuesday.ndjson
    """
    ruleset = load_rules_to_run(rule_paths, load_fields(fields_file))
    settings = ReplaySettings(match_index=not ignore_index, prefilter=not strict, now_ms=now_ms())
    with RocksTable(state_directory) if state_directory else nullcontext(MemoryTable()) as state:
        run = Replay(ruleset, state, settings)
        with ReadingProgress(events, None if as_json else StatusLine()) as progress:
            for alert in run.run(_watched(read_events(events), progress)):
                if sys.stdout.isatty():
                    progress.make_way()
                write_json_line(alert)
    if as_json:
        click.echo(json.dumps(run.stats.summary()), err=True)
    else:
        _summarise(run.stats, ruleset)
    return EXIT_FINDINGS if strict and run.stats.dead_letters else EXIT_OK


def _watched(lines: Iterable[EventLine], progress: ReadingProgress) -> Iterator[EventLine]:
    for line in lines:
        progress.read(len(line.value) + 1)
        yield line


def _summarise(stats: ReplayStats, ruleset: RuleSet) -> None:
    rate = round(stats.documents / stats.seconds) if stats.seconds else 0
    summary = {
        "Lines read": stats.lines,
        "Events": stats.documents,
        "Skipped unread": stats.skipped,
        "Matches": stats.matches.total(),
        "New terms": stats.new_terms.total(),
        "Known terms": stats.known,
        "Alerts": stats.alerts,
        "Dead letters": stats.dead_letters.total(),
    }
    rare = {
        "Without a term": stats.without_tuple,
        "Dated in the future": stats.future_capped,
        "Alerts left out, same id": stats.duplicates,
    }
    rows = [*summary.items(), *((name, number) for name, number in rare.items() if number)]
    shown = [(name, f"{number:,}") for name, number in rows]
    shown += [("Seconds", f"{stats.seconds:.1f}"), ("Events per second", f"{rate:,}")]
    table(("SUMMARY", ""), shown, right=[1], stream="stderr")
    _say_rules(stats, ruleset)
    _say_dead_letters(stats)


def _say_rules(stats: ReplayStats, ruleset: RuleSet) -> None:
    rows = []
    for rule_id, matches in stats.matches.most_common():
        compiled = ruleset.get(rule_id)
        name = compiled.rule.name if compiled else rule_id
        rows.append((name, f"{matches:,}", f"{stats.new_terms[rule_id]:,}"))
    if rows:
        click.echo(err=True)
        table(("RULE", "MATCHES", "NEW TERMS"), rows, right=[1, 2], stream="stderr")
    for (rule_id, code), number in stats.rule_failures.items():
        click.echo(f"rule {printable(rule_id)} failed {number} times: {code}", err=True)


def _say_dead_letters(stats: ReplayStats) -> None:
    if not stats.dead_letters:
        return
    click.echo(err=True)
    rows = [(reason, f"{number:,}") for reason, number in stats.dead_letters.most_common()]
    table(("DEAD LETTERS", "LINES"), rows, right=[1], stream="stderr")
    for dead in stats.first_dead_lines:
        click.echo(printable(f"{dead.path}:{dead.line}: {dead.reason}: {dead.message}"), err=True)
