"""The consumer: what it has scanned, what may be committed, and what a rebalance takes away.

Stock Faust 0.15 has these faults. Each has a fix here, and a test on Apache Kafka:

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
from functools import cached_property
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer
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
from pipeline.stream.transport.fetcher import FilteringFetcher
from pipeline.stream.transport.liveness import Pulse
from pipeline.stream.transport.membership import MemberCoordinator
from pipeline.stream.transport.options import TransportOptions

_FULL_SECONDS = 0.02
_UNSURE_SECONDS = 0.05
_NEVER = float("inf")


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer; reports what it scanned, and seeks exactly."""

    @property
    def tracker(self) -> OffsetTracker[TP]:
        return self.consumer.tracker

    @property
    def options(self) -> TransportOptions:
        return self.transport.options

    @cached_property
    def pulse(self) -> Pulse:
        return Pulse()

    @property
    def answered_at(self) -> float:
        answered_at: float = self._ensure_consumer()._fetcher.answered_at  # noqa: SLF001
        return answered_at

    @property
    def membership(self) -> MemberCoordinator:
        coordinator: MemberCoordinator = self._ensure_consumer()._coordinator  # noqa: SLF001
        return coordinator

    async def on_start(self) -> None:
        await super().on_start()
        consumer = self._ensure_consumer()
        FilteringFetcher.adopt(
            consumer._fetcher,  # noqa: SLF001
            self.transport.reading,
            self.consumer.on_jump,
        )
        MemberCoordinator.adopt(consumer._coordinator)  # noqa: SLF001

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        conf = self.app.conf
        options = self.options
        self._assignor = self.app.assignor
        return AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset=conf.consumer_auto_offset_reset,
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=_ms(conf.broker_max_poll_interval),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_bytes=options.fetch_max_bytes,
            fetch_max_wait_ms=_ms(options.fetch_max_wait_seconds),
            request_timeout_ms=_ms(conf.broker_request_timeout),
            check_crcs=conf.broker_check_crcs,
            session_timeout_ms=_ms(conf.broker_session_timeout),
            rebalance_timeout_ms=_ms(conf.broker_rebalance_timeout),
            heartbeat_interval_ms=_ms(conf.broker_heartbeat_interval),
            isolation_level=options.isolation_level,
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> Mapping[TP, list[Any]]:
        # Reading pauses while the agents are behind: memory holds what they have not taken yet.
        bundle_buffer = self.transport.reading.bundle_buffer
        wanted = {tp for tp in active_partitions if not bundle_buffer.is_full(tp.topic)}
        if not wanted:
            await asyncio.sleep(_FULL_SECONDS)
            return {}
        if len(wanted) < len(active_partitions):
            # The others may be silent for long, and those left out may have room again in a moment.
            timeout = _FULL_SECONDS if timeout is None else min(timeout, _FULL_SECONDS)
        return await self._waiting_bundles(consumer, wanted, max_records) or await self._drain(
            consumer, wanted, timeout=timeout, max_records=max_records
        )

    async def _drain(
        self, consumer: AIOKafkaConsumer, wanted: set[TP], **limits: Any
    ) -> Mapping[TP, list[Any]]:
        records: Mapping[TP, list[Any]] = await super()._fetch_records(consumer, wanted, **limits)
        # No await between the drain above and this bookkeeping: a seek in between would be
        # overwritten by positions from before it.
        self._account(consumer, records)
        return records

    async def _waiting_bundles(
        self, consumer: AIOKafkaConsumer, wanted: set[TP], max_records: int | None
    ) -> Mapping[TP, list[Any]]:
        """Return what waits in the topics between our stages, as long as there is room for it.

        It takes only a moment to read. It comes before the inputs, which the filter has to search
        and where each bundle may take a tenth of a second. So the later stages get few and large
        portions.
        """
        reading = self.transport.reading
        waiting: dict[TP, list[Any]] = {}
        ours = {tp for tp in wanted if tp.topic in reading.bundled}
        while ours:
            records = await self._drain(consumer, ours, timeout=0, max_records=max_records)
            if not records:
                break
            for tp, bundles in records.items():
                waiting.setdefault(tp, []).extend(bundles)
            ours = {tp for tp in ours if not reading.bundle_buffer.is_full(tp.topic)}
        return waiting

    def _positions(self, consumer: AIOKafkaConsumer) -> dict[TP, int]:
        """Return the next offset to read of every assigned partition that an agent reads."""
        subscription = consumer._subscription.subscription  # noqa: SLF001
        if subscription is None or subscription.assignment is None:
            return {}
        assignment = subscription.assignment
        wanted = self.app.topics.acks_enabled_for
        positions = {}
        for tp in assignment.tps:
            if wanted(tp.topic):
                state = assignment.state_value(tp)
                if state is not None and state.has_valid_position:
                    positions[ensure_TP(tp)] = state.position
        return positions

    def _account(
        self, consumer: AIOKafkaConsumer, records: Mapping[TopicPartition, list[Any]]
    ) -> None:
        delivered = {ensure_TP(tp): [r.offset for r in rows] for tp, rows in records.items()}
        for tp, position in self._positions(consumer).items():
            if offsets := delivered.get(tp):
                self.tracker.scanned(tp, offsets[0], position, offsets)
            else:
                # aiokafka silently steps over control records and aborted ones.
                self.tracker.passed(tp, position)

    def readable_end(self, tp: TP) -> int | None:
        """Return the offset up to which a partition can be read; None if no fetch has told it yet.

        At and after this offset, there may be records of a transaction that is still open.
        """
        consumer = self._ensure_consumer()
        end: int | None = consumer.highwater(tp)
        if self.options.isolation_level == "read_committed":
            stable = consumer.last_stable_offset(tp)
            if stable is not None and stable >= 0:
                return int(stable)
        return end

    def open_transaction(self, tp: TP) -> int | None:
        """Return the start of the first open transaction, if records wait behind it; else None."""
        readable, end = self.readable_end(tp), self._ensure_consumer().highwater(tp)
        return readable if readable is not None and end is not None and end > readable else None

    async def seek_to_committed(self) -> Mapping[TP, int]:
        return await self.call_thread(self._seek_each_to_committed)

    async def _seek_each_to_committed(self) -> Mapping[TP, int]:
        """Seek each partition and reset its bookkeeping in one step, with no fetch in between."""
        consumer = self._ensure_consumer()
        # One request for all: a worker may have dozens of partitions, and reads none meanwhile.
        asked = list(consumer.assignment())
        answer = await consumer._coordinator.fetch_committed_offsets(asked)  # noqa: SLF001
        committed: dict[TP, Any] = {}
        if self.transport.reading.record_filter is not None:
            self.transport.reading.record_filter.clear()
        for tp in asked:
            if not consumer._subscription.is_assigned(tp):  # noqa: SLF001
                continue
            found = answer.get(tp)
            offset = None if found is None or found.offset < 0 else found.offset
            committed[ensure_TP(tp)] = offset
            base = self.tracker.forget(ensure_TP(tp))
            self.transport.reading.bundle_buffer.forget([(tp.topic, tp.partition)])
            # Without a commit, aiokafka leaves the position where it is, which would skip what was
            # fetched but not processed. So go back to where reading began.
            target = offset if offset is not None else base
            if target is not None:
                consumer._fetcher.seek_to(tp, target)  # noqa: SLF001
            if self.app.topics.acks_enabled_for(tp.topic):
                self.tracker.begin(ensure_TP(tp), target)
        return committed

    async def leave_group(self) -> None:
        """Leave the group, unless membership is static; nothing can be committed after that."""
        await self.call_thread(self._ensure_consumer()._coordinator.close)  # noqa: SLF001

    async def _seek_wait(self, consumer: AIOKafkaConsumer, partitions: Mapping[TP, int]) -> None:
        for tp in partitions:
            self.tracker.forget(ensure_TP(tp))
        await super()._seek_wait(consumer, partitions)

    def seek(self, partition: TP, offset: int) -> None:
        self.tracker.forget(ensure_TP(partition))
        super().seek(partition, offset)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust's check compares unlike clocks, and `health` watches progress."""

    def verify_recovery_event_path(self, now: float, tp: TP) -> None:
        """Do nothing, for the same reason."""


class Consumer(driver.Consumer):
    """Faust's consumer with exact bookkeeping of what may be committed, and a commit gate."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.tracker: OffsetTracker[TP] = OffsetTracker()
        self.last_commit_at = monotonic()
        self.last_commit_succeeded = True
        self._holds_until = _NEVER
        self._set_back: set[TP] = set()
        self._jumps: dict[TP, tuple[int, int]] = {}
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
        if position < expected:
            self._set_back.add(tp)
        # Until something is committed, each seek to the committed offset leads here again.
        before, reached = self._jumps.get(tp, (None, 0))
        self._jumps[tp] = expected, position
        if before == expected:
            expected = reached
        if position != expected:
            self.app.on_jump(tp, expected, position)

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
            self._jumps.pop(tp, None)
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


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
