"""`firstseen dead-letters`: records that could not be processed, and how to try them again."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from pipeline.cli.dead_letter_text import (
    counts_text,
    letter_dict,
    letter_row,
    letter_text,
)
from pipeline.cli.exits import say_warning
from pipeline.cli.lazy import SuggestingGroup
from pipeline.cli.options import SettingsFlags, json_option, settings_options
from pipeline.cli.output import confirmed, table, write_json
from pipeline.config.values import parse_duration
from pipeline.errors import EXIT_FINDINGS, EXIT_OK
from pipeline.kafka.dead_letters import Place, Requeued, StoredLetter, fetch, requeue, survey

_F = TypeVar("_F", bound=Callable[..., Any])


class _Moment(click.ParamType):
    """A moment: how long ago (``2h``), or in RFC 3339."""

    name = "when"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        text = str(value)
        try:
            return datetime.now(UTC) - parse_duration(text)
        except OverflowError:
            self.fail(f"{text!r} is longer ago than a date can be", param, ctx)
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{text!r} is neither like 90s, 2h, 7d nor like 2026-03-02T08:00:00Z", param, ctx
            )
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which letters a command applies to."""

    codes: tuple[str, ...]
    topics: tuple[str, ...]
    since: datetime | None
    names: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.codes or self.topics or self.since or self.names)

    def apply(self, letters: Iterable[StoredLetter]) -> list[StoredLetter]:
        return [stored for stored in letters if self._takes(stored)]

    def _takes(self, stored: StoredLetter) -> bool:
        letter = stored.letter
        return (
            (not self.codes or letter.code in self.codes)
            and (not self.topics or letter.position.topic in self.topics)
            and (self.since is None or letter.failed_at >= self.since)
            and (not self.names or not _names_of(stored).isdisjoint(self.names))
        )


def _names_of(stored: StoredLetter) -> frozenset[str]:
    """Return the names of a letter: its position, those of its repeats, and that of its record."""
    places = (stored.place, *stored.repeats)
    return frozenset({str(stored.letter.position), *map(str, places)})


def filter_options(command: _F) -> _F:
    """Add ``--code``, ``--topic`` and ``--since``."""
    for option in (
        click.option(
            "--since",
            metavar="WHEN",
            type=_Moment(),
            help="Only what has failed since then: 2h, 7d, 2026-03-02T08:00:00Z.",
        ),
        click.option(
            "--topic", "topics", multiple=True, help="Only from this topic; may be repeated."
        ),
        click.option(
            "--code", "codes", multiple=True, help="Only with this reason; may be repeated."
        ),
    ):
        command = option(command)
    return command


@click.group("dead-letters", cls=SuggestingGroup)
def dead_letters() -> None:
    """List, show and requeue records that could not be processed.

    A dead letter is named by its place in the dead letter topic (3@17) or by the position of the
    record that failed (logs-endpoint.events.library[3]@42).

    \b
    Examples:
      firstseen dead-letters list --since 24h
      firstseen dead-letters show 3@17
      firstseen dead-letters requeue --code too_large --dry-run
    """


@dead_letters.command("list")
@filter_options
@click.option(
    "--max", "limit", metavar="N", type=click.IntRange(min=1), help="Only the latest N of them."
)
@click.option("--fail", is_flag=True, help="Exit 1 if any of them was not requeued.")
@settings_options
@json_option
def list_letters(
    *,
    settings_flags: SettingsFlags,
    codes: tuple[str, ...],
    topics: tuple[str, ...],
    since: datetime | None,
    limit: int | None,
    fail: bool,
    as_json: bool,
) -> int:
    """List dead letters, oldest failure first, and count them by reason.

    The command reads without a consumer group and commits nothing.
    """
    found = survey(settings_flags.load())
    letters = _Filter(codes, topics, since).apply(found.letters)
    counts = Counter(stored.letter.code for stored in letters)
    pending = sum(not stored.requeued for stored in letters)
    shown = letters[-limit:] if limit else letters
    if as_json:
        write_json(
            {
                "total": len(letters),
                "pending": pending,
                "codes": dict(counts.most_common()),
                "foreign": found.foreign,
                "repeated": found.repeated,
                "letters": [letter_dict(stored) for stored in shown],
            }
        )
    else:
        if shown:
            header = ("LETTER", "FAILED AT", "CODE", "STAGE", "RECORD", "TRY", "BYTES", "NOTE")
            table((*header, "MESSAGE"), map(letter_row, shown), right=(5, 6))
        click.echo(counts_text(counts, shown=len(shown), pending=pending), err=True)
        if found.repeated:
            click.echo(
                f"{found.repeated} more say the same again, from workers that stopped themselves",
                err=True,
            )
        if found.foreign:
            say_warning(f"{found.foreign} records of the topic are no dead letters of firstseen")
    return EXIT_FINDINGS if fail and pending else EXIT_OK


@dead_letters.command()
@click.argument("name", metavar="LETTER")
@click.option(
    "--raw", is_flag=True, help="Write the record's value byte for byte, and nothing else."
)
@settings_options
@json_option
def show(*, settings_flags: SettingsFlags, name: str, raw: bool, as_json: bool) -> int:
    """Show one dead letter: why it failed, where, its headers and its value.

    Key, headers and value are shown shortened, and in a form that is harmless on a terminal. --raw
    output is neither, so it goes only to a file or a pipe.
    """
    if raw and sys.stdout.isatty():
        raise click.UsageError("--raw writes what a stranger sent: send it to a file or a pipe")
    settings = settings_flags.load()
    place = Place.parse(name)
    if place is None and "@" not in name:
        raise _no_letter(name)
    if place is None:
        place = _place_of(name, survey(settings).letters)
    letter = fetch(settings, place)
    if letter is None:
        raise click.UsageError(f"there is no dead letter {name}; see: firstseen dead-letters list")
    if raw:
        click.get_binary_stream("stdout").write(letter.value or b"")
    elif as_json:
        stored = StoredLetter(place, letter, len(letter.value or b""))
        write_json(
            letter_dict(stored) | {"value": (letter.value or b"").decode("utf-8", "replace")}
        )
    else:
        click.echo(letter_text(str(place), letter))
    return EXIT_OK


def _place_of(name: str, letters: Sequence[StoredLetter]) -> Place:
    """Return the position of the latest letter for a record."""
    places = [stored.place for stored in letters if str(stored.letter.position) == name]
    if not places:
        raise _no_letter(name)
    return places[-1]


def _no_letter(name: str) -> click.UsageError:
    return click.UsageError(
        f"there is no dead letter {name}: give PARTITION@OFFSET or TOPIC[PARTITION]@OFFSET, "
        "as `firstseen dead-letters list` shows them"
    )


@dead_letters.command("requeue")
@filter_options
@click.option(
    "--position",
    "names",
    multiple=True,
    metavar="LETTER",
    help="Only this dead letter, by its place or its record; may be repeated.",
)
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@click.option("--again", is_flag=True, help="Also those that have been requeued before.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@settings_options
@json_option
def requeue_letters(
    *,
    settings_flags: SettingsFlags,
    codes: tuple[str, ...],
    topics: tuple[str, ...],
    since: datetime | None,
    names: tuple[str, ...],
    everything: bool,
    again: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Write dead letters back to where they failed, to be processed again.

    First fix what made them fail: a limit, a rule, a shipper's pipeline. Key, value and headers go
    back unchanged, with firstseen.attempt added; the dead letter stays, with a note that it was
    requeued. Exit 1 if one of them cannot go back, or if you answer no.
    """
    chosen = _Filter(codes, topics, since, names)
    if chosen.is_empty != everything:
        raise click.UsageError(
            "say which: --code, --topic, --since, --position, or --all for every one"
        )
    settings = settings_flags.load()
    surveyed = survey(settings).letters
    for name in names:
        if not any(name in _names_of(stored) for stored in surveyed):
            raise _no_letter(name)
    found = chosen.apply(surveyed)
    if not found and surveyed:
        present = sorted({stored.letter.code for stored in surveyed})
        say_warning(f"no dead letter matches; there are letters with: {', '.join(present)}")
    letters = [stored for stored in found if again or not stored.requeued]
    skipped = len(found) - len(letters)
    refused = [(s, reason) for s in letters if (reason := s.refusal(settings)) is not None]
    able = len(letters) - len(refused)
    if dry_run or not able:
        done = Requeued(refused=refused)
    elif yes or _confirmed(letters, able):
        done = requeue(settings, letters, progress=_show_progress)
    else:
        return EXIT_FINDINGS
    _report(done, able=able, skipped=skipped, dry_run=dry_run, as_json=as_json)
    return EXIT_FINDINGS if done.refused else EXIT_OK


def _confirmed(letters: Sequence[StoredLetter], able: int) -> bool:
    counts = Counter((stored.letter.position.topic, stored.letter.code) for stored in letters)
    table(
        ("TOPIC", "CODE", "LETTERS"),
        [(topic, code, count) for (topic, code), count in sorted(counts.items())],
        right=(2,),
        stream="stderr",
    )
    return confirmed(f"Write {able} of these records back?")


def _show_progress(number: int) -> None:
    click.echo(f"{number} records written", err=True)


def _report(done: Requeued, *, able: int, skipped: int, dry_run: bool, as_json: bool) -> None:
    count = able if dry_run else len(done.written)
    if as_json:
        write_json(
            {
                "dry_run": dry_run,
                "requeued": count,
                "skipped": skipped,
                "refused": [letter_dict(s) | {"refusal": reason} for s, reason in done.refused],
            }
        )
        return
    for stored, reason in done.refused:
        say_warning(f"{stored.place} ({stored.letter.position}) stays: {reason}")
    verb = "would be requeued" if dry_run else "requeued"
    before = f", {skipped} were requeued before (--again repeats that)" if skipped else ""
    click.echo(f"{count} {verb}, {len(done.refused)} refused{before}", err=True)
