"""Stage 1, MATCH: events in, observations out."""

from __future__ import annotations

from typing import Any

from pipeline.engine.decode import DecodeLimits
from pipeline.engine.forwarded import ForwardedCache
from pipeline.engine.match import Disposition, MatchStage, Outcome
from pipeline.engine.prefilter import Prefilter
from pipeline.engine.wire import Observation, encode
from pipeline.errors import RecordError
from pipeline.stream.context import Context
from pipeline.stream.records import RECORD_OVERHEAD_BYTES, record_of
from pipeline.types import Record

STAGE = "match"


class MatchAgent:
    """Runs the match stage on each record and sends what it found.

    An observation that the forwarded cache covers is not sent: the sighting it relies on went
    through the same outbox before, so it is acknowledged before this record can be committed.
    """

    def __init__(self, context: Context) -> None:
        settings, ruleset = context.settings, context.ruleset
        self._app = context.app
        self._topics = settings.topics
        self._max_bytes = settings.kafka.message_max_bytes
        self._metrics = context.metrics
        self._dead_letters = context.dead_letters
        self._stage = MatchStage(
            ruleset,
            limits=DecodeLimits(
                max_bytes=settings.stream.max_event_bytes,
                max_depth=settings.stream.max_depth,
                max_documents=settings.stream.max_documents,
                max_values=settings.stream.max_values,
            ),
            max_future_ms=round(settings.state.max_future.total_seconds() * 1000),
            prefilter=Prefilter.from_ruleset(ruleset),
            match_index=settings.rules.match_index,
            include_event=settings.alerts.include_event,
        )
        self._forwarded = ForwardedCache(
            max_entries=settings.state.forwarded_entries,
            granularity_ms=round(settings.state.granularity.total_seconds() * 1000),
        )

    async def handle(self, message: Any) -> None:
        record = record_of(message)
        self._metrics.records_consumed.labels(message.topic).inc()
        outcome = self._stage.process(record)
        error = outcome.error
        for observation in outcome.observations:
            error = await self._forward(observation) or error
        for new_term in outcome.new_terms:
            key = new_term.rule.id.encode()
            error = await self._send(self._topics.new_terms, key, encode(new_term)) or error
        if error is not None:
            await self._dead_letters.write(record, code=error.reason, stage=STAGE, text=str(error))
        self._count(record, outcome, error)
        self._dead_letters.judge(bad=error is not None)
        self._app.consumer.acknowledge(message)

    async def _forward(self, observation: Observation) -> RecordError | None:
        """Send an observation, unless a sighting just before says the same."""
        key = observation.key()
        # A history no longer than the granularity could end between two sightings.
        cached = self._forwarded.applies_to(observation.window_ms)
        if cached and self._forwarded.covers(key, observation.time_ms):
            self._metrics.observations.labels("covered").inc()
            return None
        error = await self._send(self._topics.observations, key, encode(observation))
        if error is None:
            self._forwarded.remember(key, observation.time_ms)
            self._metrics.observations.labels("forwarded").inc()
        return error

    async def _send(self, topic: str, key: bytes, value: bytes) -> RecordError | None:
        """Send a record; one that the broker would refuse becomes the reason of a dead letter."""
        if len(value) > self._max_bytes - RECORD_OVERHEAD_BYTES:
            return RecordError(
                "output_too_large",
                f"a record of {len(value)} bytes for {topic}; raise kafka.message_max_bytes",
            )
        await self._app.outbox.send(topic, key=key, value=value)
        return None

    def _count(self, record: Record, outcome: Outcome, error: RecordError | None) -> None:
        metrics, position = self._metrics, record.position
        topic = position.topic
        last = metrics.last_record_timestamp.labels(topic, str(position.partition))
        last.set(record.timestamp_ms / 1000)
        disposition = outcome.disposition if error is None else Disposition.DEAD_LETTER
        metrics.records_processed.labels(topic, disposition).inc()
        metrics.events_decoded.labels(topic).inc(outcome.documents)
        for rule_id, _ in outcome.matches:
            metrics.rule_matches.labels(rule_id).inc()
        for failure in outcome.failures:
            metrics.rule_errors.labels(failure.rule_id, failure.code).inc()
        for observation in outcome.observations:
            metrics.event_age.observe((record.arrival_ms - observation.time_ms) / 1000)
        metrics.events_future.inc(outcome.future_capped)
        metrics.events_without_tuple.inc(outcome.without_tuple)
