"""Stage 2, FIRST SEEN: observations in, new terms out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from faust.types import TP

from pipeline.assembly.native import uses_native
from pipeline.engine.alert import build_alert
from pipeline.engine.first_seen import FirstSeenVerdict
from pipeline.engine.seen_again import SeenAgain
from pipeline.engine.wire import (
    Change,
    Forget,
    Hold,
    Learn,
    Observation,
    decode_observation_or_change,
    encode,
)
from pipeline.errors import DecodeError
from pipeline.stream.context import Context
from pipeline.stream.outbox import Outgoing
from pipeline.stream.partitions import Partition, Partitions
from pipeline.stream.records import record_of_fetched, timestamp_of
from pipeline.stream.sweeper import Sweeper
from pipeline.stream.tables import StateTable
from pipeline.stream.transport import Delivered

STAGE = "first_seen"


class _New(NamedTuple):
    """A sighting that raises a new term.

    Attributes:
        record: its record, as it was fetched.
        observation: the sighting.
        verdict: the verdict on it.
        clock_ms: the event clock at that moment.
    """

    record: Any
    observation: Observation
    verdict: FirstSeenVerdict
    clock_ms: int


class FirstSeenAgent:
    """Judges each observation against the table, and sends the alerts of new terms onwards.

    The row, its changelog record and the new term are sent together, and the commit gate waits for
    all of them. The row is stamped with the offset of the observation. So if that record is
    replayed, it raises the same new term again, whatever the row says by then
    (`pipeline.engine.first_seen`).
    """

    def __init__(self, context: Context, table: StateTable) -> None:
        settings = context.settings
        self._app = context.app
        self._topics = settings.topics
        self._max_bytes = settings.kafka.max_value_bytes
        self._include_event = settings.alerts.include_event
        self._ruleset = context.ruleset
        self._metrics = context.metrics
        self._dead_letters = context.dead_letters
        self._seen_again = SeenAgain() if uses_native(settings) else None
        self.partitions = Partitions(context, table)
        self.sweeper = Sweeper(context, self.partitions)

    async def handle(self, delivered: Sequence[Delivered]) -> None:
        """Handle bundles of sightings and changes; send all their new terms together."""
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
        """Judge a bundle, then write its rows in one go; return the new terms to send."""
        partition = self.partitions.partition(message.partition)
        committed = self._app.consumer.committed(TP(message.topic, message.partition))
        new_terms: list[_New] = []
        # The key of a record is that of its row. If it is not, the row is read when it is asked
        # for.
        partition.table.read_ahead([record.key for record in records if record.key])
        at = 0
        while at < len(records):
            again = self._observe_again(partition, records, at, committed)
            results["known"] += again
            at += again
            if at < len(records):
                new = await self._judge_one(partition, records[at], committed, results)
                if new is not None:
                    new_terms.append(new)
                at += 1
        # One kind of work after another, so that each finds what it needs in the processor's
        # caches.
        raised = [await self._raise(new) for new in new_terms]
        self._count_raised(new_terms, raised)
        await partition.table.send_changes(self._app.outbox)
        return [sent for sent in raised if sent is not None]

    def _observe_again(
        self, partition: Partition, records: list[Any], start: int, committed: int
    ) -> int:
        """Observe sightings of known tuples; return how many there were."""
        if self._seen_again is None or not self.sweeper.has_no_removals:
            return 0
        first_seen, table = partition.first_seen, partition.table
        return self._seen_again.observe(first_seen, table, records, start, committed)

    async def _judge_one(
        self, partition: Partition, record: Any, committed: int, results: Counter[str]
    ) -> _New | None:
        """Judge one record; return the new term, if it is one."""
        try:
            envelope = decode_observation_or_change(record.value or b"")
        except DecodeError as exc:
            await self._dead_letters.write(
                record_of_fetched(record), code=exc.reason, stage=STAGE, text=str(exc)
            )
            return None
        if not isinstance(envelope, Observation):
            await self.sweeper.wait_for_removal(record.key)
            self._change(partition, envelope, record.offset, committed)
            return None
        if self._seen_again is not None:
            self._seen_again.note_opening(envelope)
        key = envelope.key()
        await self.sweeper.wait_for_removal(key)
        verdict = partition.first_seen.observe(envelope, record.offset, committed, key)
        results[_result(verdict)] += 1
        if not verdict.remembered:
            self.sweeper.refused(envelope.rule.id)
        if verdict.held:
            self._metrics.sightings_held.labels(envelope.rule.id).inc()
        if not verdict.new:
            return None
        return _New(record, envelope, verdict, partition.first_seen.clock.latest_ms or 0)

    def _change(self, partition: Partition, change: Change, offset: int, committed: int) -> None:
        """Apply the change that a history command asks for; see `pipeline.engine.first_seen`."""
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

    async def _raise(self, new: _New) -> Outgoing | None:
        """Return the new term to send; None if it became a dead letter."""
        rule_id = new.observation.rule.id
        try:
            value = self._alert(new, include_event=self._include_event)
            if len(value) > self._max_bytes:
                # Better an alert without its event than none: its position leads back to the event.
                value = self._alert(new, include_event=False)
        except DecodeError as exc:
            record = record_of_fetched(new.record)
            await self._dead_letters.write(
                record, code=exc.reason, stage=STAGE, text=str(exc), rule_id=rule_id
            )
            return None
        if len(value) > self._max_bytes:
            await self._dead_letters.write(
                record_of_fetched(new.record),
                code="output_too_large",
                stage=STAGE,
                text=f"the alert has {len(value)} bytes; raise kafka.message_max_bytes",
                rule_id=rule_id,
            )
            return None
        return Outgoing(rule_id.encode(), value)

    def _count_raised(self, new_terms: Sequence[_New], raised: Sequence[Outgoing | None]) -> None:
        """Count the new terms that are sent for the first time."""
        by_rule = Counter(
            new.observation.rule.id
            for new, sent in zip(new_terms, raised, strict=True)
            if sent is not None and not new.verdict.repeated
        )
        for rule_id, terms in by_rule.items():
            self._metrics.new_terms.labels(rule_id).inc(terms)

    def _alert(self, new: _New, *, include_event: bool) -> bytes:
        compiled = self._ruleset.get(new.observation.rule.id)
        return encode(
            build_alert(
                new.observation,
                new.verdict,
                None if compiled is None else compiled.rule,
                # The observation's own timestamp, so that a replay builds the same bytes.
                created_ms=timestamp_of(new.record),
                ruleset_digest=self._ruleset.digest,
                include_event=include_event,
                clock_ms=new.clock_ms,
            )
        )


def _result(verdict: FirstSeenVerdict) -> str:
    if verdict.held:
        return "held"
    if verdict.repeated:
        return "repeated"
    return "new" if verdict.new else "known"
