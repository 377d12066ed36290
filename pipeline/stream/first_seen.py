"""Stage 2, FIRST SEEN: observations in, new terms out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from faust.types import TP

from pipeline.config.native import uses_native
from pipeline.engine.alert import build_alert
from pipeline.engine.first_seen import Sighting
from pipeline.engine.seen_again import SeenAgain
from pipeline.engine.wire import (
    Change,
    Forget,
    Hold,
    Learn,
    NewTerm,
    Observation,
    decode_sighting,
    encode,
)
from pipeline.errors import DecodeError
from pipeline.record import Record
from pipeline.stream.context import Context
from pipeline.stream.outbox import Outgoing
from pipeline.stream.records import RECORD_OVERHEAD_BYTES, record_of_consumer
from pipeline.stream.sweeper import Partition, Sweeper
from pipeline.stream.tables import StateTable
from pipeline.stream.transport import Delivered

STAGE = "first_seen"


class FirstSeenAgent:
    """Judges each observation against the table and sends the alerts of new terms onwards.

    The row, its changelog record and the new term leave together; the commit gate waits for all
    of them. The row is stamped with the observation's offset, so a replay of that very record
    raises the same new term again, whatever the row says by then (`pipeline.engine.first_seen`).
    """

    def __init__(self, context: Context, table: StateTable) -> None:
        settings = context.settings
        self._app = context.app
        self._topics = settings.topics
        self._max_bytes = settings.kafka.message_max_bytes - RECORD_OVERHEAD_BYTES
        self._include_event = settings.alerts.include_event
        self._ruleset = context.ruleset
        self._metrics = context.metrics
        self._dead_letters = context.dead_letters
        self._seen_again = SeenAgain() if uses_native(settings) else None
        self.sweeper = Sweeper(context, table)

    async def handle(self, delivered: Sequence[Delivered]) -> None:
        """Handle bundles of sightings and changes: what they raise is sent together."""
        raised: list[Outgoing] = []
        results: Counter[str] = Counter()
        for message, records in delivered:
            raised += await self._judge(message, list(records), results)
        for result, sightings in results.items():
            self._metrics.sightings.labels(result).inc(sightings)
        await self._app.outbox.send_keyed(self._topics.new_terms, raised)
        for message, _ in delivered:
            self._app.consumer.acknowledge(message)

    async def _judge(
        self, message: Any, records: list[Any], results: Counter[str]
    ) -> list[Outgoing]:
        """Judge a bundle, then write its rows at once; return the new terms to send."""
        partition = self.sweeper.partition(message.partition)
        committed = self._app.consumer.committed(TP(message.topic, message.partition))
        raised: list[Outgoing] = []
        # The key of a record is that of its row. Where it is not, its row is read when asked for.
        partition.table.read_ahead([record.key for record in records if record.key])
        at = 0
        while at < len(records):
            again = self._observe_again(partition, records, at, committed)
            results["known"] += again
            at += again
            if at < len(records):
                raised += await self._judge_one(partition, records[at], committed, results)
                at += 1
        await partition.table.send_changes(self._app.outbox)
        return raised

    def _observe_again(
        self, partition: Partition, records: list[Any], start: int, committed: int
    ) -> int:
        """Observe sightings of tuples that are known, and return how many they were."""
        if self._seen_again is None or not self.sweeper.is_settled:
            return 0
        first_seen, table = partition.first_seen, partition.table
        return self._seen_again.observe(first_seen, table, records, start, committed)

    async def _judge_one(
        self, partition: Partition, record: Any, committed: int, results: Counter[str]
    ) -> list[Outgoing]:
        """Judge one record; return the new term to send, if there is one."""
        try:
            envelope = decode_sighting(record.value or b"")
        except DecodeError as exc:
            await self._dead_letters.write(
                record_of_consumer(record), code=exc.reason, stage=STAGE, text=str(exc)
            )
            return []
        if not isinstance(envelope, Observation):
            await self.sweeper.settled(record.key)
            self._change(partition, envelope, record.offset, committed)
            return []
        if self._seen_again is not None:
            self._seen_again.learn(envelope)
        key = envelope.key()
        await self.sweeper.settled(key)
        sighting = partition.first_seen.observe(envelope, record.offset, committed, key)
        results[_result(sighting)] += 1
        return await self._told(partition, record, envelope, sighting)

    async def _told(
        self, partition: Partition, record: Any, observation: Observation, sighting: Sighting
    ) -> list[Outgoing]:
        """Return the new term to send for a sighting, if it is one."""
        if not sighting.remembered:
            self.sweeper.refused(observation.rule.id)
        if sighting.held:
            self._metrics.sightings_held.labels(observation.rule.id).inc()
        return await self._raise(partition, record, observation, sighting) if sighting.new else []

    def _change(self, partition: Partition, change: Change, offset: int, committed: int) -> None:
        """Do what a history command asks for; see `pipeline.engine.first_seen`."""
        first_seen = partition.first_seen
        if isinstance(change, Learn):
            result = "learned" if first_seen.learn(change, offset, committed) else "refused"
        elif isinstance(change, Forget):
            first_seen.forget(change, offset, committed)
            result = "forgotten"
        elif isinstance(change, Hold):
            first_seen.hold(change, offset, committed)
            result = "held"
        else:
            first_seen.release(change, offset)
            result = "released"
        self._metrics.history_records.labels(result).inc()

    async def _raise(
        self, partition: Partition, consumed: Any, observation: Observation, sighting: Sighting
    ) -> list[Outgoing]:
        """Return the new term to send; none where it is a dead letter instead."""
        record = record_of_consumer(consumed)
        clock_ms = partition.first_seen.clock.latest_ms or 0

        def encoded(*, event: bool) -> bytes:
            new_term = self._alert(record, observation, sighting, event=event)
            return encode(msgspec.structs.replace(new_term, clock_ms=clock_ms))

        try:
            value = encoded(event=self._include_event)
            if len(value) > self._max_bytes:
                # Better an alert without its event than none: the position leads back to the event.
                value = encoded(event=False)
        except DecodeError as exc:
            await self._dead_letters.write(
                record, code=exc.reason, stage=STAGE, text=str(exc), rule_id=observation.rule.id
            )
            return []
        if len(value) > self._max_bytes:
            await self._dead_letters.write(
                record,
                code="output_too_large",
                stage=STAGE,
                text=f"the alert has {len(value)} bytes; raise kafka.message_max_bytes",
                rule_id=observation.rule.id,
            )
            return []
        if not sighting.repeated:
            self._metrics.new_terms.labels(observation.rule.id).inc()
        return [Outgoing(observation.rule.id.encode(), value)]

    def _alert(
        self, record: Record, observation: Observation, sighting: Sighting, *, event: bool
    ) -> NewTerm:
        compiled = self._ruleset.get(observation.rule.id)
        return build_alert(
            observation,
            sighting,
            None if compiled is None else compiled.rule,
            # The observation's own timestamp: a replay builds the same bytes.
            created_ms=record.timestamp_ms,
            ruleset_digest=self._ruleset.digest,
            include_event=event,
        )


def _result(sighting: Sighting) -> str:
    if sighting.held:
        return "held"
    if sighting.repeated:
        return "repeated"
    return "new" if sighting.new else "known"
