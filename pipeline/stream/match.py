"""Stage 1, MATCH: events in, observations out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.match_stage import match_stage
from pipeline.engine.forwarded import ForwardedCache
from pipeline.engine.match import Disposition, Outcome
from pipeline.engine.prefilter import Prefilter
from pipeline.engine.timestamp import is_usable
from pipeline.engine.wire import encode
from pipeline.errors import RecordError
from pipeline.record import Record
from pipeline.stream.context import Context
from pipeline.stream.match_filter import MatchFilter
from pipeline.stream.outbox import Outgoing
from pipeline.stream.records import RECORD_OVERHEAD_BYTES

STAGE = "match"


@dataclass(frozen=True, slots=True)
class _Sending:
    """What a bundle gives rise to, gathered to be sent together."""

    observations: list[Outgoing]
    new_terms: list[Outgoing]


@dataclass(slots=True)
class _Counted:
    """What a bundle adds to the metrics: a counter costs a microsecond each time it is asked."""

    documents: int = 0
    latest_ms: int | None = None
    dispositions: Counter[Disposition] = field(default_factory=Counter)
    matches: Counter[str] = field(default_factory=Counter)
    observations: Counter[str] = field(default_factory=Counter)


class MatchAgent:
    """Runs the match stage on each record and sends what it found.

    An observation that the forwarded cache covers is not sent: the sighting it relies on went
    through the same outbox before, so it is acknowledged before this record can be committed.
    """

    def __init__(self, context: Context, match_filter: MatchFilter) -> None:
        settings, ruleset = context.settings, context.ruleset
        self._app = context.app
        self._topics = settings.topics
        self._max_bytes = settings.kafka.message_max_bytes
        self._metrics = context.metrics
        self._dead_letters = context.dead_letters
        self._filter = match_filter
        self._dropped = 0
        # For records that reach the agent unjudged: all of them at `Depth.AGENT`. The filter's own
        # stage and search belong to the consumer's thread.
        self._stage = match_stage(settings, ruleset, Prefilter.from_ruleset(ruleset))
        self._forwarded = ForwardedCache(
            max_entries=settings.state.forwarded_entries,
            granularity_ms=round(settings.state.granularity.total_seconds() * 1000),
        )

    async def handle(self, message: Any, items: Sequence[tuple[Record, Outcome | None]]) -> None:
        """Handle a bundle: records, with their outcomes where the filter has judged them."""
        sending = _Sending([], [])
        counted = _Counted()
        try:
            for record, judged in items:
                outcome = self._stage.process(record) if judged is None else judged
                error = self._take(outcome, record.read_ms, sending, counted) or outcome.error
                if error is not None:
                    await self._dead_letters.write(
                        record, code=error.reason, stage=STAGE, text=str(error)
                    )
                self._count(record, outcome, error, counted)
                self._judge(bad=error is not None)
        finally:
            self._export(message.topic, message.partition, counted)
        await self._app.outbox.send_keyed(self._topics.observations, sending.observations)
        await self._app.outbox.send_keyed(self._topics.new_terms, sending.new_terms)
        self._app.consumer.acknowledge(message)

    def _take(
        self, outcome: Outcome, read_ms: int, sending: _Sending, counted: _Counted
    ) -> RecordError | None:
        """Put what an outcome gives rise to among what will be sent; return what cannot be sent."""
        error = None
        for observation in outcome.observations:
            key = observation.key()
            # A history no longer than the granularity could end between two sightings.
            cached = self._forwarded.applies_to(observation.window_ms)
            if cached and self._forwarded.covers(key, observation.time_ms, read_ms):
                counted.observations["covered"] += 1
                continue
            refused = self._add(sending.observations, key, encode(observation))
            if refused is None:
                self._forwarded.remember(key, observation.time_ms, read_ms)
                counted.observations["forwarded"] += 1
            error = error or refused
        for new_term in outcome.new_terms:
            key = new_term.rule.id.encode()
            error = error or self._add(sending.new_terms, key, encode(new_term))
        return error

    def _add(self, records: list[Outgoing], key: bytes, value: bytes) -> RecordError | None:
        """Add a record; one that the broker would refuse becomes the reason of a dead letter."""
        if len(value) > self._max_bytes - RECORD_OVERHEAD_BYTES:
            return RecordError(
                "output_too_large",
                f"a record of {len(value)} bytes; raise kafka.message_max_bytes",
            )
        records.append(Outgoing(key, value))
        return None

    def _judge(self, *, bad: bool) -> None:
        """Count this record, and those the filter dropped before it, for the dead letter limit."""
        dropped = self._filter.dropped
        self._dead_letters.judge_good(dropped - self._dropped)
        self._dropped = dropped
        self._dead_letters.judge(bad=bad)

    def _count(
        self, record: Record, outcome: Outcome, error: RecordError | None, counted: _Counted
    ) -> None:
        disposition = outcome.disposition if error is None else Disposition.DEAD_LETTER
        counted.dispositions[disposition] += outcome.records
        counted.documents += outcome.documents
        for rule_id, _ in outcome.matches:
            counted.matches[rule_id] += 1
        for failure in outcome.failures:
            self._metrics.rule_errors.labels(failure.rule_id, failure.code).inc()
        if is_usable(record.timestamp_ms):
            counted.latest_ms = record.timestamp_ms
        for observation in outcome.observations:
            age_ms = max(0, record.arrival_ms - observation.time_ms)
            self._metrics.event_age.observe(age_ms / 1000)
        if outcome.future_capped:
            self._metrics.events_future.inc(outcome.future_capped)
        for reason in outcome.untimed:
            self._metrics.events_untimed.labels(reason).inc()
        if outcome.without_tuple:
            self._metrics.events_without_tuple.inc(outcome.without_tuple)

    def _export(self, topic: str, partition: int, counted: _Counted) -> None:
        """Add what was counted of a bundle to the metrics."""
        metrics = self._metrics
        metrics.records_consumed.labels(topic).inc(counted.dispositions.total())
        if counted.latest_ms is not None:
            stamp = metrics.last_record_timestamp.labels(topic, str(partition))
            stamp.set(counted.latest_ms / 1000)
        metrics.events_decoded.labels(topic).inc(counted.documents)
        for disposition, records in counted.dispositions.items():
            metrics.records_processed.labels(topic, disposition).inc(records)
        for rule_id, matches in counted.matches.items():
            metrics.rule_matches.labels(rule_id).inc(matches)
        for result, observations in counted.observations.items():
            metrics.observations.labels(result).inc(observations)
