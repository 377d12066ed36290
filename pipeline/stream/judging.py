"""What the match stage makes of a record in the stream.

It is the same in the consumer's thread, below Faust, as in the agent at `Depth.AGENT`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pipeline.config import Settings
from pipeline.engine.decode import Document
from pipeline.engine.forwarded import ForwardedCache
from pipeline.engine.identity import event_identity, term_key
from pipeline.engine.match import SKIPPED, Disposition, MatchStage, Outcome
from pipeline.engine.seen import RuleMatch, Seen
from pipeline.engine.timestamp import TIMESTAMP, usable_time
from pipeline.engine.verdicts import Alike, Sighted, Verdicts
from pipeline.engine.wire import encode
from pipeline.errors import RecordError
from pipeline.record import Position, Record
from pipeline.stream.counts import MatchCounts
from pipeline.stream.outbox import Outgoing
from pipeline.stream.records import RECORD_OVERHEAD_BYTES
from pipeline.telemetry.metrics import Metrics


class Judged(msgspec.Struct, frozen=True):
    """What a record gives rise to.

    Attributes:
        position: where the record stands.
        timestamp_ms: its timestamp.
        disposition: how it ends.
        observations: what goes to first seen.
        new_terms: what goes to the quota.
        dead: the record, if it is a dead letter, and why; the first reason, if there are several.
        records: how many records it stands for.
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
        """Whether nothing is left to do for it but to count it."""
        return not (self.observations or self.new_terms or self.dead)

    @property
    def size(self) -> int:
        """How many bytes wait with it."""
        sizes = [each.size for each in (*self.observations, *self.new_terms)]
        if self.dead is not None:
            sizes.append(len(self.dead[0].key or b"") + len(self.dead[0].value or b""))
        return sum(sizes)


def nothing(record: Record, disposition: Disposition) -> Judged:
    """Return what a record gives rise to that matches nothing."""
    return Judged(record.position, record.timestamp_ms, disposition)


def dead_letter(record: Record, error: RecordError, records: int = 1) -> Judged:
    """Return what a record gives rise to that cannot be judged, or one that stands for many."""
    return Judged(
        position=record.position,
        timestamp_ms=record.timestamp_ms,
        disposition=Disposition.DEAD_LETTER,
        dead=(record, error),
        records=records,
    )


class Judge:
    """Runs the match stage and spells out what is to be sent. Not for two threads at once.

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
            verdicts: what remembers verdicts of the stage, if that is possible.
        """
        self._stage = stage
        self._max_bytes = settings.kafka.message_max_bytes - RECORD_OVERHEAD_BYTES
        self._forwarded = ForwardedCache(
            max_entries=settings.state.forwarded_entries,
            granularity_ms=round(settings.state.granularity.total_seconds() * 1000),
        )
        self._verdicts = verdicts
        self.counts = MatchCounts(metrics)

    def judge(self, record: Record, answers: Callable[[bytes], bool] | None = None) -> Judged:
        """Judge a record, and count what was found in it.

        Args:
            record: the record.
            answers: whether the search on raw bytes lets a value through, asked only if nothing
                matches: else the record counts as skipped, as if that had been asked before.
        """
        alike = None if self._verdicts is None else self._verdicts.look(record.value)
        outcome = None if alike is None else self._known(record, alike)
        if outcome is None:
            outcome = self._stage.process(record)
            if alike is not None and alike.verdict is None and self._verdicts is not None:
                self._verdicts.learn(alike, outcome)
        if answers is not None and not outcome.matches and not answers(record.value or b""):
            outcome = SKIPPED
        self.counts.add(record.position.topic, outcome)
        return self._spelled(record, outcome)

    def _known(self, record: Record, alike: Alike) -> Outcome | None:
        """Return the outcome for an event that reads like one of which the verdict is known.

        Without what was seen, if the forwarded cache covers all of it. None where the verdict is
        not known, or the time that counts for the event is not its own: it is to be judged.
        """
        verdict, reading = alike.verdict, alike.reading
        if verdict is None or not verdict.outcome.matches:
            return None if verdict is None else verdict.outcome
        time_ms = usable_time(reading.time)
        if time_ms is None or time_ms > self._stage.latest_ms(record):
            return None
        found = []
        is_covered = True
        for sighted in verdict.sighted:
            terms = sighted.terms_in(reading.texts)
            key = term_key(sighted.history, terms)
            found.append((sighted, key, terms))
            is_covered = is_covered and self._forwarded.covers_key(
                key, sighted.window_ms, time_ms, record
            )
        if is_covered:
            self.counts.observations["covered"] += len(found)
            return verdict.outcome
        identity = event_identity(reading.event_id, record.position, 0)
        seen = tuple(
            Seen(key, terms, _match(sighted, record, time_ms, identity))
            for sighted, key, terms in found
        )
        return msgspec.structs.replace(verdict.outcome, seen=seen)

    def forget(self) -> None:
        """Leave nothing out because of what was judged so far: it may be lost on its way."""
        self._forwarded.clear()

    def _spelled(self, record: Record, outcome: Outcome) -> Judged:
        """Spell out what is to be sent; what the broker would refuse becomes a dead letter."""
        error = outcome.error
        observations: list[Outgoing] = []
        new_terms: list[Outgoing] = []
        for seen in outcome.seen:
            if self._forwarded.covers(seen):
                self.counts.observations["covered"] += 1
                continue
            outgoing = Outgoing(seen.key, encode(seen.observation()))
            refused = self._refused(outgoing)
            error = error or refused
            if refused is None:
                observations.append(outgoing)
                self._forward(seen)
        for new_term in outcome.new_terms:
            outgoing = Outgoing(new_term.rule.id.encode(), encode(new_term))
            refused = self._refused(outgoing)
            error = error or refused
            if refused is None:
                new_terms.append(outgoing)
        if not (observations or new_terms or error):
            return nothing(record, outcome.disposition)
        return Judged(
            position=record.position,
            timestamp_ms=record.timestamp_ms,
            disposition=outcome.disposition if error is None else Disposition.DEAD_LETTER,
            observations=tuple(observations),
            new_terms=tuple(new_terms),
            dead=None if error is None else (record, error),
        )

    def _forward(self, seen: Seen) -> None:
        self._forwarded.remember(seen)
        self.counts.observations["forwarded"] += 1
        age_ms = max(0, seen.match.record.arrival_ms - seen.match.time_ms)
        self.counts.ages.append(age_ms / 1000)

    def _refused(self, outgoing: Outgoing) -> RecordError | None:
        """Return why the broker would refuse a record, if it would."""
        size = len(outgoing.value or b"")
        if size <= self._max_bytes:
            return None
        text = f"a record of {size} bytes; raise kafka.message_max_bytes"
        return RecordError("output_too_large", text)


def _match(sighted: Sighted, record: Record, time_ms: int, identity: str) -> RuleMatch:
    """Return the match of a rule by an event that was not decoded."""
    return RuleMatch(
        rule=sighted.rule,
        history=sighted.history,
        window_ms=sighted.window_ms,
        document=Document({}, record.value or b"", 0),
        record=record,
        time_ms=time_ms,
        time_source=TIMESTAMP,
        capped=False,
        _identity=identity,
    )
