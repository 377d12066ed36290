"""The consumer, on the worker's event loop: what may be committed, and what a rebalance takes away.

What it reads comes from its thread, `pipeline.stream.transport.consumer_thread`.

Stock Faust 0.15 has these faults. Each has a fix in one of the two, and a test on Apache Kafka:

* A commit goes past records in flight, and stumbles over gaps: fixed by `OffsetTracker`.
* A commit does not wait for what was produced: see the gate in `Consumer._commit_offsets`.
* A revocation forgets what was acknowledged: here it commits first
  (`Consumer.on_partitions_revoked`).
* A record that was fetched before a rebalance, and dropped after it, is acknowledged: here
  acknowledgements come only from our agents (`Consumer.acknowledge`), never from Faust's streams.
* A partition without a committed offset is not sought back: see `ConsumerThread.seek_to_committed`.
* A log that ends before the committed offset is read again, but nothing is committed until it is as
  long as before: see `Consumer.on_jump`.
* Work in progress is sent although another worker owns the partition by now: see
  `Consumer.still_owns`.
* The isolation level and the fetch sizes are fixed: see `ConsumerThread._create_worker_consumer`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from time import monotonic
from typing import Any

from aiokafka.structs import TopicPartition
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.futures import notify

from pipeline.errors import DeliveryError
from pipeline.stream.offsets import OffsetTracker
from pipeline.stream.outbox import Outbox
from pipeline.stream.transport.bundled_records import BundleRecord
from pipeline.stream.transport.bundles import carriers
from pipeline.stream.transport.consumer_thread import ConsumerThread
from pipeline.stream.transport.options import TransportOptions

_UNSURE_SECONDS = 0.05
_NEVER = float("inf")


class Consumer(driver.Consumer):
    """Faust's consumer with exact bookkeeping of what may be committed, and a commit gate."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.tracker: OffsetTracker[TP] = OffsetTracker()
        self.last_commit_at = monotonic()
        self.last_commit_succeeded = True
        self._holds_until = _NEVER
        self._set_back: set[TP] = set()
        # What was told of jumps: the last one back, and which offsets are known to be deleted.
        self._cut_short: dict[TP, tuple[int, int]] = {}
        self._deleted: dict[TP, tuple[int, int]] = {}
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def options(self) -> TransportOptions:
        return self.transport.options

    @property
    def outbox(self) -> Outbox:
        return self.app.outbox

    def mark_in_flight(self, messages: Iterable[Any]) -> None:
        """Make stops and rebalances wait until these messages are acknowledged.

        Faust knows only the message that it has handed over, not the ones that it carries.
        """
        self._unacked_messages.update(messages)

    def may_begin(self, message: Any) -> bool:
        """Whether work on what was fetched with this message may still begin.

        It may not after a stop or a rebalance has closed the flow. It then stays unacknowledged,
        and is read again, because whoever opens the flow again seeks first.
        """
        return bool(self.flow_active and message.generation_id == self.app.consumer_generation_id)

    def acknowledge(self, message: Any) -> None:
        """Mark a record as done; ignored if it was fetched before the last rebalance.

        This must be the only way to acknowledge. Faust's own path also acknowledges records that a
        stream dropped because of a rebalance, and those would be lost.
        """
        message.acked = True
        self._unacked_messages.discard(message)
        if message.generation_id == self.app.consumer_generation_id:
            self.tracker.acknowledge(message.tp, (message.offset,))
        notify(self._waiting_for_ack)

    async def still_owns(self, message: Any) -> bool:
        """Return whether we still own the partition of a record; wait until that is certain.

        A worker can lose its partitions without noticing: it was frozen for longer than a session,
        or could not finish in time when the group asked for them. The new owner then decides again
        what was in progress here. The decision may depend on the clock, so only one of the two may
        be sent.

        `MemberCoordinator` knows until when the group cannot have given the partition away. After
        that, only the next heartbeat can tell, so sending waits for it.

        Once the group asks for the partition, we let go earlier: half of the rebalance timeout
        after we heard of it. Then what was sent before has time to arrive, and we have time to join
        before the group goes on without us.
        """
        membership = self._thread.membership
        while membership.generation == message.generation_id and monotonic() < self._holds_until:
            if membership.is_confirmed():
                return True
            await asyncio.sleep(_UNSURE_SECONDS)
        return False

    def abandon(self, message: Any) -> None:
        """Give up a record that another worker processes again; its offset is not acknowledged."""
        message.acked = True
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)

    def committed(self, tp: TP) -> int:
        """Return the offset from which a restart would read; 0 if nothing was committed."""
        return self._committed_offset[tp] or 0

    def ping_thread(self) -> int:
        """Ping the consumer's thread; return how many pings before this one it has not answered."""
        return self._thread.pulse.ping(self._thread.thread_loop)

    def answered_at(self) -> float:
        """Return when a broker last answered a fetch (`time.monotonic`)."""
        return self._thread.answered_at

    def next_offset(self, tp: TP) -> int:
        """Return the next offset to read of a partition; -1 if none is known."""
        return self._thread.next_offset(tp)

    def open_transaction(self, tp: TP) -> int | None:
        """Return the start of the first open transaction, if records wait behind it; else None."""
        return self._thread.open_transaction(tp)

    def lags(self) -> dict[TP, int]:
        """Return the number of records not committable yet, per partition that an agent reads."""
        lags = {}
        for tp in self.assignment():
            if self._is_source(tp):
                end = self._thread.readable_end(tp)
                position = self.tracker.committable(tp)
                if end is not None:
                    done = self.committed(tp) if position is None else position
                    lags[tp] = max(0, end - done)
        return lags

    def on_jump(self, partition: TopicPartition, expected: int, position: int) -> None:
        """Note that the log does not have the offset that was to be read next.

        If it ends before that offset, because brokers have lost records, it is read again from its
        beginning. The committed offset then has to follow: otherwise a later restart would skip
        what has been written up to it in the meantime. Called in the consumer's thread.

        Args:
            partition: the partition.
            expected: the offset that was to be read next.
            position: the log's first offset, which is read next instead.
        """
        tp = ensure_TP(partition)
        # Until something is committed, each seek to the committed offset leads here again.
        if position < expected:
            self._set_back.add(tp)
            self._deleted.pop(tp, None)
            if self._cut_short.get(tp) != (expected, position):
                self._cut_short[tp] = expected, position
                self.app.on_jump(tp, expected, position)
            return
        begin, end = self._deleted.get(tp, (position, position))
        if expected > end:
            begin, end = position, position
        self._deleted[tp] = min(expected, begin), position
        for first, after_last in ((expected, min(begin, position)), (max(expected, end), position)):
            if first < after_last:
                self.app.on_jump(tp, first, after_last)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit everything that is acknowledged by now.

        While another commit is in progress, Faust would only wait for its end. But that commit has
        read its offsets earlier, and at a stop, or before partitions are revoked, nobody would
        commit the rest.
        """
        while await self.maybe_wait_for_commit_to_finish():
            pass
        committed: bool = await super().commit(topics, start_new_transaction)
        return committed

    # -- what Faust calls when it commits

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (
            tp
            for tp in self.tracker.partitions()
            if topics is None or tp in topics or tp.topic in topics
        )

    def _new_offset(self, tp: TP) -> int | None:
        return self.tracker.committable(tp)

    def _should_commit(self, tp: TP, offset: int) -> bool:
        if tp in self._set_back:
            return offset != self._committed_offset[tp]
        return bool(super()._should_commit(tp, offset))

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: gaps need no bookkeeping, because the tracker knows the scanned position."""

    async def _handle_attached(self, commit_offsets: Mapping[TP, int]) -> None:
        """Do nothing: the outbox, not the offset, holds what must be acknowledged first."""

    async def _commit_offsets(
        self,
        offsets: Mapping[TP, int],
        start_new_transaction: bool = True,  # noqa: ARG002 - Faust's signature
    ) -> bool:
        """Commit once everything that was produced for these offsets is acknowledged.

        The offsets were read before the outbox is looked at, so the outbox covers at least
        everything that belongs to them.
        """
        start = monotonic()
        self.last_commit_succeeded = False
        try:
            settled = await self.outbox.settle(self.options.settle_seconds)
        except DeliveryError as exc:
            await self.crash(exc)
            return False
        if not settled:
            self.log.warning("commit put off: %d records unacknowledged", len(self.outbox))
            self.app.on_commit_ended("held", monotonic() - start)
            return False
        assigned = self.assignment()
        wanted = {tp: offset for tp, offset in offsets.items() if tp in assigned}
        self.last_commit_succeeded = not wanted  # others commit what is no longer ours
        if not wanted or not await self._commit(wanted):
            self.app.on_commit_ended("failure", monotonic() - start)
            return False
        self._committed_offset.update(wanted)
        for tp in wanted:
            self._cut_short.pop(tp, None)
        self.last_commit_at = monotonic()
        self.last_commit_succeeded = True
        self.app.on_committed(wanted)
        self.app.on_commit_ended("success", self.last_commit_at - start)
        return True

    # -- rebalance

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit what is acknowledged while the partitions are still ours, then let go."""
        self._holds_until = monotonic() + self.options.revoke_seconds
        try:
            await asyncio.wait_for(self.commit(), self.options.revoke_seconds)
        except TimeoutError:
            self.log.warning("no commit before the revocation within the time; work is repeated")
        await super().on_partitions_revoked(revoked)
        self._holds_until = 0.0
        for tp in revoked:
            self.tracker.forget(ensure_TP(tp))
            self._set_back.discard(ensure_TP(tp))
        self.transport.reading.bundle_buffer.forget((tp.topic, tp.partition) for tp in revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._holds_until = _NEVER
        if not self.app.should_stop:  # otherwise the last commit decides how the worker ends
            self.last_commit_succeeded = True  # what was not committed by now is read again
        await super().on_partitions_assigned(assigned, generation_id)

    async def _wait_next_records(
        self,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> tuple[Any, set[TP] | None]:
        records, partitions = await super()._wait_next_records(timeout)
        if not self.flow_active:
            # A stop or a rebalance closed the flow during the fetch. Faust would now seek to the
            # committed offsets, and the commit that is still to come would no longer know what was
            # acknowledged. So these records are dropped here. They are unacknowledged, so nothing
            # commits past them, and whoever opens the flow again seeks first.
            return None, None
        return records, partitions

    async def leave_group(self) -> None:
        """Let others have our partitions, if any; call this when everything is committed."""
        if self.started and self._thread._consumer is not None and self.assignment():  # noqa: SLF001
            await self._thread.leave_group()

    def _to_message(self, tp: TP, record: Any) -> Any:
        message = super()._to_message(tp, record)
        if isinstance(record, BundleRecord):
            message.bundle = record.bundle
        return message

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109
        messages = []
        async for tp, message in super().getmany(timeout):
            read = self._read_offset[tp]
            # Faust silently drops what lies below its read offset (as in a topic that was
            # recreated). Such a message would stay unacknowledged for ever.
            if read is not None and message.offset < read and self._is_source(tp):
                self._read_offset[tp] = None
            messages.append(message)
        for message in carriers(messages, self.transport.reading.bundles):
            if not self.may_begin(message):
                return
            yield message.tp, message

    def _is_source(self, tp: TP) -> bool:
        return self.app.topics.acks_enabled_for(tp.topic)
