"""What the match stage makes of a record in the stream.

The same code runs in the consumer's thread, below Faust, and in the agent at `Depth.AGENT`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from pipeline.assembly.match_stage import forwarded_cache
from pipeline.clock import now_ms
from pipeline.config import Settings
from pipeline.engine.forwarded import Forwarded
from pipeline.engine.match import (
    NO_MATCH,
    SKIPPED,
    Disposition,
    MatchStage,
    Outcome,
    RuleFailure,
)
from pipeline.engine.sighting import Sighting
from pipeline.engine.verdicts import KnownRun, Verdicts
from pipeline.engine.wire import encode
from pipeline.errors import RecordError
from pipeline.record import Position, Record
from pipeline.stream.counts import MatchCounts
from pipeline.stream.outbox import Outgoing, size_of
from pipeline.stream.records import record_of_batch, timestamp_of
from pipeline.telemetry.logging import get_logger
from pipeline.telemetry.metrics import Metrics

log = get_logger(__name__)


class Judged(msgspec.Struct, frozen=True):
    """The result of judging a record, or several consecutive records with the same outcome.

    Attributes:
        position: the position of the first record.
        timestamp_ms: the timestamp of the last record.
        disposition: the outcome.
        observations: what goes to the first seen stage.
        new_terms: what goes to the quota stage.
        dead: the record and the (first) reason, if it is a dead letter.
        records: how many records there are; for an unreadable batch, what its header says, at most
            one per offset.
    """

    position: Position
    timestamp_ms: int
    disposition: Disposition
    observations: tuple[Outgoing, ...] = ()
    new_terms: tuple[Outgoing, ...] = ()
    dead: tuple[Record, RecordError] | None = None
    records: int = 1

    @property
    def is_done(self) -> bool:
        """Whether nothing remains to be done except counting."""
        return not (self.observations or self.new_terms or self.dead)

    @property
    def size(self) -> int:
        """How many bytes this keeps in memory."""
        size = size_of(self.observations) + size_of(self.new_terms)
        if self.dead is not None:
            size += len(self.dead[0].key or b"") + len(self.dead[0].value or b"")
        return size


def without_output(record: Record, disposition: Disposition) -> Judged:
    """Return the result for a record that matches nothing."""
    return Judged(record.position, record.timestamp_ms, disposition)


def dead_letter(record: Record, error: RecordError, records: int = 1) -> Judged:
    """Return the result for a record that cannot be judged, or one that stands for many."""
    return Judged(
        position=record.position,
        timestamp_ms=record.timestamp_ms,
        disposition=Disposition.DEAD_LETTER,
        dead=(record, error),
        records=records,
    )


class Judge:
    """Runs the match stage and encodes what is to be sent. Not thread-safe.

    Sightings that the forwarded cache covers are left out.

    Attributes:
        counts: what was found.
    """

    def __init__(
        self,
        settings: Settings,
        stage: MatchStage,
        metrics: Metrics,
        verdicts: Verdicts | None = None,
    ) -> None:
        """Prepare to judge.

        Args:
            settings: the whole configuration.
            stage: the match stage.
            metrics: the catalogue's metrics.
            verdicts: remembers the verdicts of the stage, if that is possible.
        """
        self._stage = stage
        self._max_bytes = settings.kafka.max_value_bytes
        self._forwarded: Forwarded = (
            forwarded_cache(settings) if verdicts is None else verdicts.forwarded
        )
        self._verdicts = verdicts
        self.counts = MatchCounts(metrics)

    def judge_all(
        self, tp: Any, records: list[Any], passes_search: Callable[[bytes], bool] | None = None
    ) -> Iterator[Judged]:
        """Judge records of a partition, and count what was found in them.

        Args:
            tp: the partition.
            records: consecutive records of its batches, without those that need no judging.
            passes_search: whether the search on raw bytes lets a value through. It is asked only
                if nothing matches; if it says no, the record counts as skipped, as if it had been
                asked first.
        """
        at = 0
        while at < len(records):
            next_matches_nothing = False
            if self._verdicts is not None:
                known = self._verdicts.judge(records, at, tp.topic, tp.partition, now_ms())
                if known.records:
                    judged, at = records[at : at + known.records], at + known.records
                    yield self._from_known_verdicts(known, tp, judged)
                if known.next_may_be_known and not known.next_matches_nothing:
                    continue
                next_matches_nothing = known.next_matches_nothing
            record = record_of_batch(tp, records[at])
            at += 1
            yield self._judge(record, passes_search, NO_MATCH if next_matches_nothing else None)

    def judge(self, record: Record) -> Judged:
        """Judge a single record without remembered verdicts, and count what was found in it."""
        return self._counted(record, self._stage.process(record))

    def _judge(
        self, record: Record, passes_search: Callable[[bytes], bool] | None, outcome: Outcome | None
    ) -> Judged:
        """Judge a record, unless its outcome is known already."""
        if outcome is None:
            outcome = self._stage.process(record)
            if self._verdicts is not None:
                self._verdicts.remember(record.value, outcome)
        if passes_search is not None and not outcome.matches:
            outcome = outcome if passes_search(record.value or b"") else SKIPPED
        return self._counted(record, outcome)

    def _counted(self, record: Record, outcome: Outcome) -> Judged:
        """Count what was found in a record, and return the result."""
        self.counts.add(record.position.topic, outcome)
        for failure in outcome.failures:
            _log_failure(record.position, failure)
        return self._encoded(record, outcome)

    def _from_known_verdicts(self, known: KnownRun, tp: Any, records: list[Any]) -> Judged:
        """Return the result for records whose verdicts are known, and count it."""
        counts = self.counts
        for outcome, count in known.outcomes:
            counts.add(tp.topic, outcome, count)
        counts.observations["covered"] += known.covered
        counts.observations["forwarded"] += len(known.sent)
        counts.ages += known.ages
        return Judged(
            position=Position(tp.topic, tp.partition, records[0].offset),
            timestamp_ms=timestamp_of(records[-1]),
            disposition=Disposition.MATCHED,
            observations=tuple([Outgoing(key, value) for key, value in known.sent]),
            records=len(records),
        )

    def clear(self) -> None:
        """Forget what was forwarded so far, because it may be lost on its way."""
        self._forwarded.clear()

    def _encoded(self, record: Record, outcome: Outcome) -> Judged:
        """Encode what is to be sent; what the broker would refuse becomes a dead letter."""
        error = outcome.error
        observations: list[Outgoing] = []
        new_terms: list[Outgoing] = []
        for sighting in outcome.sightings:
            if self._forwarded.covers(sighting):
                self.counts.observations["covered"] += 1
                continue
            outgoing = Outgoing(sighting.key, encode(sighting.observation()))
            refused = self._refused(outgoing)
            error = error or refused
            if refused is None:
                observations.append(outgoing)
                self._forward(sighting)
        for new_term in outcome.new_terms:
            outgoing = Outgoing(new_term.rule.id.encode(), encode(new_term))
            refused = self._refused(outgoing)
            error = error or refused
            if refused is None:
                new_terms.append(outgoing)
        if not (observations or new_terms or error):
            return without_output(record, outcome.disposition)
        return Judged(
            position=record.position,
            timestamp_ms=record.timestamp_ms,
            disposition=outcome.disposition if error is None else Disposition.DEAD_LETTER,
            observations=tuple(observations),
            new_terms=tuple(new_terms),
            dead=None if error is None else (record, error),
        )

    def _forward(self, sighting: Sighting) -> None:
        self._forwarded.remember(sighting)
        self.counts.observations["forwarded"] += 1
        age_ms = max(0, sighting.match.record.arrival_ms - sighting.match.time_ms)
        self.counts.ages.append(age_ms / 1000)

    def _refused(self, outgoing: Outgoing) -> RecordError | None:
        """Return why the broker would refuse a record, or None."""
        size = len(outgoing.value or b"")
        if size <= self._max_bytes:
            return None
        text = f"a record of {size} bytes; raise kafka.message_max_bytes"
        return RecordError("output_too_large", text)


def _log_failure(position: Position, failure: RuleFailure) -> None:
    log.error(
        "a rule did not judge an event, or not all of it",
        action="rule_failed",
        rule_id=failure.rule_id,
        code=failure.code,
        topic=position.topic,
        partition=position.partition,
        offset=position.offset,
        reason=failure.message,
    )
