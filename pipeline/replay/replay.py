"""Replay: the stages of the stream, driven over lines of files.

A line is a record: its topic is the file's name, its partition is 0, and its offset is the number
of the line over all files, from 0. The verdicts are those of the stream for the same records in the
same order. There are these differences, mostly in what has no meaning in a file:

* There is no quota. Every new term raises an alert, because a replay is about what a rule would
  find, not about how much of it an analyst can read.
* The alert's own time is the effective time of its event, so that replays can be compared byte for
  byte.
* Every sighting is observed. The stream leaves out repeated ones within `state.granularity`, so its
  last-seen times may be older by that much.
* A line does not say when it arrived. A time in the future is capped relative to
  `ReplaySettings.now_ms`, if that is given, and an event without a usable time is a dead letter.

Offsets of first-seen rows
--------------------------
First seen takes an observation whose offset it has already passed for a replay after a crash, and
does not apply it again (`pipeline.engine.first_seen`). But a state folder outlives a run, and the
lines of the next run, whether other lines or the same again, are new sightings. So each run has a
number. It is kept in the table and incremented before anything else is written, and the run's
observations are numbered from ``run << 40``, which is beyond those of every earlier run.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.engine.alert import build_alert
from pipeline.engine.decode import DecodeLimits
from pipeline.engine.first_seen import FirstSeen
from pipeline.engine.match import Disposition, MatchStage, Outcome
from pipeline.engine.prefilter import Prefilter
from pipeline.engine.tables import Table
from pipeline.engine.wire import NewTerm, Observation
from pipeline.errors import StateError
from pipeline.replay.events import EventLine, record_of_line
from pipeline.rules.ruleset import RuleSet
from pipeline.rules.timestamp import MAX_MS

RUN_KEY: Final = b"replay/run"
"""The key of the last run's number in the table. No first-seen key has this length."""

RUN_SHIFT: Final = 40
DEAD_LINES: Final = 20
"""How many dead letters are kept with their place; all of them are counted."""

REMEMBERED_IDS: Final = 100_000
"""How many alert ids are remembered, so that none is sent twice, as in the stream's quota."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """How a replay runs.

    Attributes:
        limits: the limits of the decoder.
        match_index: whether the rules' index patterns are applied.
        include_event: whether alerts carry the original event.
        prefilter: whether raw lines are searched before they are decoded.
        max_future_ms: how far after `now_ms` an event may be dated.
        now_ms: the time of the replay, epoch milliseconds; None if no time is too late.
    """

    limits: DecodeLimits = field(default_factory=DecodeLimits)
    match_index: bool = True
    include_event: bool = True
    prefilter: bool = True
    max_future_ms: int = 300_000
    now_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeadLine:
    """A line that could not be processed, or not completely."""

    path: str
    line: int
    reason: str
    message: str


@dataclass(slots=True)
class ReplayStats:
    """What a replay counted.

    Attributes:
        lines: lines read, including blank ones.
        blank: lines without content.
        skipped: lines that the search on raw bytes ruled out.
        documents: events decoded, and those of skipped lines (one each).
        matches: matches, by rule id.
        new_terms: tuples judged new, by rule id.
        known: sightings of tuples judged known.
        alerts: alerts yielded.
        duplicates: alerts left out because an alert with the same id was yielded before in this
            run.
        without_tuple: matches whose event lacks a value in a new-terms field.
        future_capped: matches dated too far in the future.
        dead_letters: lines that could not be processed, by reason.
        first_dead_lines: the first of these lines.
        rule_failures: failures, by (rule id, code).
        seconds: how long it took, including what the consumer did between alerts.
    """

    lines: int = 0
    blank: int = 0
    skipped: int = 0
    documents: int = 0
    matches: Counter[str] = field(default_factory=Counter)
    new_terms: Counter[str] = field(default_factory=Counter)
    known: int = 0
    alerts: int = 0
    duplicates: int = 0
    without_tuple: int = 0
    future_capped: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    first_dead_lines: list[DeadLine] = field(default_factory=list)
    rule_failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Return the counts as plain data that can be written as JSON."""
        return {
            "lines": self.lines,
            "events": self.documents,
            "skipped": self.skipped,
            "matches": self.matches.total(),
            "new_terms": self.new_terms.total(),
            "known": self.known,
            "alerts": self.alerts,
            "duplicates": self.duplicates,
            "without_tuple": self.without_tuple,
            "future_capped": self.future_capped,
            "dead_letters": dict(sorted(self.dead_letters.items())),
            "rules": {
                rule_id: {"matches": number, "new_terms": self.new_terms[rule_id]}
                for rule_id, number in sorted(self.matches.items())
            },
            "rule_failures": [
                {"rule_id": rule_id, "code": code, "count": number}
                for (rule_id, code), number in sorted(self.rule_failures.items())
            ],
            "seconds": round(self.seconds, 3),
            "events_per_second": round(self.documents / self.seconds) if self.seconds else 0,
        }


class Replay:
    """Runs lines through the engine. One object is one run.

    Args:
        ruleset: the rules.
        table: the first-seen state; an existing state is continued.
        settings: how to run.

    Attributes:
        stats: what has been counted so far.

    Raises:
        StateError: the table's run number cannot be read.
    """

    def __init__(
        self, ruleset: RuleSet, table: Table, settings: ReplaySettings | None = None
    ) -> None:
        self.stats = ReplayStats()
        self._settings = settings or ReplaySettings()
        self._ruleset = ruleset
        self._match = MatchStage(
            ruleset,
            limits=self._settings.limits,
            max_future_ms=self._settings.max_future_ms,
            prefilter=Prefilter.from_ruleset(ruleset) if self._settings.prefilter else None,
            match_index=self._settings.match_index,
            include_event=self._settings.include_event,
        )
        self._first_seen = FirstSeen(table)
        self._observed = _begin_run(table) << RUN_SHIFT
        self._emitted_ids: OrderedDict[str, None] = OrderedDict()

    def run(self, lines: Iterable[EventLine]) -> Iterator[bytes]:
        """Yield each alert as a JSON document, in the order of the lines.

        Raises:
            EventsFileError: from the lines, see `pipeline.replay.events.read_events`.
            StateError: a row of the table cannot be read.
        """
        started = time.perf_counter()
        try:
            for line in lines:
                yield from self._process(line)
                self.stats.seconds = time.perf_counter() - started
        finally:
            self.stats.seconds = time.perf_counter() - started

    def _process(self, line: EventLine) -> Iterator[bytes]:
        offset = self.stats.lines
        self.stats.lines += 1
        if not line.value or line.value.isspace():
            self.stats.blank += 1
            return
        now_ms = self._settings.now_ms
        arrival_ms = MAX_MS if now_ms is None else now_ms
        outcome = self._match.process(record_of_line(line, offset, arrival_ms))
        self._count(outcome, line)
        for observation in outcome.observations:
            yield from self._observe(observation)
        for new_term in outcome.new_terms:
            yield from self._emit(new_term)

    def _observe(self, observation: Observation) -> Iterator[bytes]:
        offset = self._observed
        self._observed += 1
        # Within a run nothing is read twice, so everything before this observation is committed.
        verdict = self._first_seen.observe(observation, offset, committed=offset)
        if not verdict.new:
            self.stats.known += 1
            return
        self.stats.new_terms[observation.rule.id] += 1
        compiled = self._ruleset.get(observation.rule.id)
        yield from self._emit(
            build_alert(
                observation,
                verdict,
                compiled.rule if compiled else None,
                created_ms=observation.time_ms,
                ruleset_digest=self._ruleset.digest,
                include_event=self._settings.include_event,
            )
        )

    def _emit(self, new_term: NewTerm) -> Iterator[bytes]:
        if new_term.alert_id in self._emitted_ids:
            self.stats.duplicates += 1
            return
        self._emitted_ids[new_term.alert_id] = None
        if len(self._emitted_ids) > REMEMBERED_IDS:
            self._emitted_ids.popitem(last=False)
        self.stats.alerts += 1
        yield bytes(new_term.alert)

    def _count(self, outcome: Outcome, line: EventLine) -> None:
        stats = self.stats
        stats.documents += outcome.documents
        stats.skipped += outcome.disposition is Disposition.SKIPPED
        stats.without_tuple += outcome.without_tuple
        stats.future_capped += outcome.future_capped
        stats.matches.update(rule_id for rule_id, _ in outcome.matches)
        stats.rule_failures.update((each.rule_id, each.code) for each in outcome.failures)
        if outcome.error is not None:
            reason = outcome.error.reason
            stats.dead_letters[reason] += 1
            if len(stats.first_dead_lines) < DEAD_LINES:
                dead = DeadLine(line.path, line.line, reason, str(outcome.error))
                stats.first_dead_lines.append(dead)


def _begin_run(table: Table) -> int:
    """Return this run's number, from 1, and store it in the table.

    Raises:
        StateError: the number in the table cannot be read.
    """
    noted = table.get(RUN_KEY)
    if noted is not None and not noted.isdigit():
        raise StateError(f"the state's run number is damaged ({noted[:50]!r}): begin a new state")
    run = int(noted or 0) + 1
    table.put(RUN_KEY, str(run).encode())
    return run
