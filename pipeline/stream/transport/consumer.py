"""The consumer: what it has scanned, what may be committed, what is let go at a rebalance.

What stock Faust 0.15 does wrong, and what stands here instead (each has a test on Apache Kafka):

* a commit passes records in flight and stumbles over gaps -> `OffsetTracker`;
* a commit does not wait for what was produced -> the gate in `Consumer._commit_offsets`;
* a revocation forgets what was acknowledged -> commit first;
* a record fetched before a rebalance and dropped after it is acknowledged -> acknowledgements
  come from our agents alone (`Consumer.acknowledge`), never from Faust's streams;
* a partition without a committed offset is not sought back -> `ConsumerThread.seek_to_committed`;
* what is under way goes out although others have the partition by now -> `Consumer.holds`;
* the isolation level and the fetch sizes are fixed -> `ConsumerThread._create_worker_consumer`.
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
from pipeline.stream.transport.bundles import carried
from pipeline.stream.transport.endless import Pulse
from pipeline.stream.transport.fetcher import FilteringFetcher
from pipeline.stream.transport.membership import MemberCoordinator
from pipeline.stream.transport.options import TransportOptions

_FULL_SECONDS = 0.02
_UNSURE_SECONDS = 0.05
_NEVER = float("inf")


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer: reports what it scanned, seeks exactly."""

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
        FilteringFetcher.adopt(consumer._fetcher, self.transport.reading)  # noqa: SLF001
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
        # Where the agents are behind, reading pauses: memory holds what they have not taken yet.
        bundle_buffer = self.transport.reading.bundle_buffer
        wanted = {tp for tp in active_partitions if not bundle_buffer.is_full(tp.topic)}
        if not wanted:
            await asyncio.sleep(_FULL_SECONDS)
            return {}
        if len(wanted) < len(active_partitions):
            # Others may be silent for long, and those left out have room again in a moment.
            timeout = _FULL_SECONDS if timeout is None else min(timeout, _FULL_SECONDS)
        return await self._waiting_bundles(consumer, wanted, max_records) or await self._drain(
            consumer, wanted, timeout=timeout, max_records=max_records
        )

    async def _drain(
        self, consumer: AIOKafkaConsumer, wanted: set[TP], **limits: Any
    ) -> Mapping[TP, list[Any]]:
        records: Mapping[TP, list[Any]] = await super()._fetch_records(consumer, wanted, **limits)
        # No await between the drain above and this bookkeeping: a seek that slipped in between
        # would be overwritten by positions from before it.
        self._account(consumer, records)
        return records

    async def _waiting_bundles(
        self, consumer: AIOKafkaConsumer, wanted: set[TP], max_records: int | None
    ) -> Mapping[TP, list[Any]]:
        """Return what waits of our own topics, as long as there is room for it.

        It takes a moment to read, and comes before what the filter has to search, of which each
        bundle may take a tenth of a second: so the stages behind get few and large portions.
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
                # aiokafka steps over control records and aborted ones without a word.
                self.tracker.passed(tp, position)

    def readable_end(self, tp: TP) -> int | None:
        """Return the offset up to which a partition can be read; None if no fetch has told it.

        Behind it there may be records of a transaction that is still open.
        """
        consumer = self._ensure_consumer()
        end: int | None = consumer.highwater(tp)
        if self.options.isolation_level == "read_committed":
            stable = consumer.last_stable_offset(tp)
            if stable is not None and stable >= 0:
                return int(stable)
        return end

    def open_transaction(self, tp: TP) -> int | None:
        """Return where the first open transaction begins behind which records wait, if one does."""
        readable, end = self.readable_end(tp), self._ensure_consumer().highwater(tp)
        return readable if readable is not None and end is not None and end > readable else None

    async def seek_to_committed(self) -> Mapping[TP, int]:
        return await self.call_thread(self._seek_each_to_committed)

    async def _seek_each_to_committed(self) -> Mapping[TP, int]:
        """Seek and begin anew in one step a partition, so that no fetch comes between the two."""
        consumer = self._ensure_consumer()
        # One question for all: a worker may have dozens of partitions, and stands still meanwhile.
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
            # Without a commit aiokafka leaves the position where it is, and what was fetched but
            # not processed would be skipped: go back to where reading began.
            target = offset if offset is not None else base
            if target is not None:
                consumer._fetcher.seek_to(tp, target)  # noqa: SLF001
            if self.app.topics.acks_enabled_for(tp.topic):
                self.tracker.begin(ensure_TP(tp), target)
        return committed

    async def leave_group(self) -> None:
        """Leave the group, unless membership is static; nothing can be committed any more."""
        await self.call_thread(self._ensure_consumer()._coordinator.close)  # noqa: SLF001

    async def _seek_wait(self, consumer: AIOKafkaConsumer, partitions: Mapping[TP, int]) -> None:
        for tp in partitions:
            self.tracker.forget(ensure_TP(tp))
        await super()._seek_wait(consumer, partitions)

    def seek(self, partition: TP, offset: int) -> None:
        self.tracker.forget(ensure_TP(partition))
        super().seek(partition, offset)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Stay silent: Faust's detector compares clocks of two kinds; `health` watches progress."""

    def verify_recovery_event_path(self, now: float, tp: TP) -> None:
        """Stay silent, for the same reason."""


class Consumer(driver.Consumer):
    """Faust's consumer with an exact idea of what may be committed, and a gate before it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.tracker: OffsetTracker[TP] = OffsetTracker()
        self.last_commit_at = monotonic()
        self.last_commit_succeeded = True
        self._holds_until = _NEVER
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def options(self) -> TransportOptions:
        return self.transport.options

    @property
    def outbox(self) -> Outbox:
        return self.app.outbox

    def begin(self, messages: Iterable[Any]) -> None:
        """Have stops and rebalances wait until these are acknowledged.

        Faust knows of the message that it has handed over, not of those that it carries.
        """
        self._unacked_messages.update(messages)

    def goes_on(self, message: Any) -> bool:
        """Whether what was fetched with this message may be begun.

        Once a stop or a rebalance has closed the flow, it may not. It is unacknowledged, and read
        again: whoever opens the flow again seeks first.
        """
        return bool(self.flow_active and message.generation_id == self.app.consumer_generation_id)

    def acknowledge(self, message: Any) -> None:
        """Mark a record as done; one that was fetched before the last rebalance counts for nothing.

        The only way to acknowledge: Faust's own path also acknowledges records that a stream
        dropped because a rebalance came in between, and they would be lost.
        """
        message.acked = True
        self._unacked_messages.discard(message)
        if message.generation_id == self.app.consumer_generation_id:
            self.tracker.acknowledge(message.tp, (message.offset,))
        notify(self._waiting_for_ack)

    async def still_owns(self, message: Any) -> bool:
        """Return whether the partition of a record is still ours; wait until that is sure.

        A worker that was frozen for longer than a session, or could not finish in time when the
        group asked for its partitions, has lost them to another one, which decides again what was
        under way here. What it decides may depend on its clock, so only one of the two may tell.

        `MemberCoordinator` knows until when the group cannot have given the partition away; after
        that only the next heartbeat tells, so what is to be sent waits for it. Once we are asked
        for the partition we let go earlier, half of the rebalance timeout after we heard of that:
        what was sent before has time to arrive, and we to join before the group goes on without us.
        """
        membership = self._thread.membership
        while membership.generation == message.generation_id and monotonic() < self._holds_until:
            if membership.is_confirmed():
                return True
            await asyncio.sleep(_UNSURE_SECONDS)
        return False

    def abandon(self, message: Any) -> None:
        """Be done with a record that others process again: its offset stays where it is."""
        message.acked = True
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)

    def committed(self, tp: TP) -> int:
        """Return the offset from which a restart would read; 0 if nothing was committed."""
        return self._committed_offset[tp] or 0

    def unanswered(self) -> int:
        """Ask the thread whether it goes on; return how often it was asked since it answered."""
        return self._thread.pulse.ask(self._thread.thread_loop)

    def answered_at(self) -> float:
        """Return when a broker answered a fetch last (`time.monotonic`)."""
        return self._thread.answered_at

    def open_transaction(self, tp: TP) -> int | None:
        """Return where the first open transaction begins behind which records wait, if one does."""
        return self._thread.open_transaction(tp)

    def lags(self) -> dict[TP, int]:
        """Return, by partition an agent reads, how many records are not committable yet."""
        lags = {}
        for tp in self.assignment():
            if self._is_source(tp):
                end = self._thread.readable_end(tp)
                position = self.tracker.committable(tp)
                if end is not None:
                    done = self.committed(tp) if position is None else position
                    lags[tp] = max(0, end - done)
        return lags

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit all that is acknowledged by now.

        While another commit is under way Faust only waits for its end; that one has read its
        offsets before. At a stop, or before partitions are let go, nobody would commit the rest.
        """
        while await self.maybe_wait_for_commit_to_finish():
            pass
        committed: bool = await super().commit(topics, start_new_transaction)
        return committed

    # -- what Faust asks when it commits

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (
            tp
            for tp in self.tracker.partitions()
            if topics is None or tp in topics or tp.topic in topics
        )

    def _new_offset(self, tp: TP) -> int | None:
        return self.tracker.committable(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Gaps need no bookkeeping: the tracker knows the scanned position."""

    async def _handle_attached(self, commit_offsets: Mapping[TP, int]) -> None:
        """Nothing is attached to offsets: the outbox holds what must be acknowledged first."""

    async def _commit_offsets(
        self,
        offsets: Mapping[TP, int],
        start_new_transaction: bool = True,  # noqa: ARG002 - Faust's signature
    ) -> bool:
        """Commit when everything produced for these offsets is acknowledged.

        The offsets were read before the outbox is looked at, so the outbox holds at least all
        that belongs to them.
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
        self.last_commit_succeeded = not wanted  # what is no longer ours, others commit
        if not wanted or not await self._commit(wanted):
            self.app.on_commit_ended("failure", monotonic() - start)
            return False
        self._committed_offset.update(wanted)
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
        self.transport.reading.bundle_buffer.forget((tp.topic, tp.partition) for tp in revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._holds_until = _NEVER
        if not self.app.should_stop:  # else the last commit decides how the worker ends
            self.last_commit_succeeded = True  # what was not committed until now is read again
        await super().on_partitions_assigned(assigned, generation_id)

    async def _wait_next_records(
        self,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> tuple[Any, set[TP] | None]:
        records, partitions = await super()._wait_next_records(timeout)
        if not self.flow_active:
            # The flow was closed during the fetch, by a stop or a rebalance. Faust would seek to
            # the committed offsets now, and the commit that is still to come would no longer know
            # what was acknowledged. Dropped, these records are unacknowledged, so nothing commits
            # past them, and whoever opens the flow again seeks first.
            return None, None
        return records, partitions

    async def leave_group(self) -> None:
        """Let others have our partitions, if there are any; call it when all is committed."""
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
            # Faust drops what lies below its read offset (a topic that was made anew) in
            # silence; it would stay unacknowledged for ever.
            if read is not None and message.offset < read and self._is_source(tp):
                self._read_offset[tp] = None
            messages.append(message)
        for message in carried(messages, self.transport.reading.bundles):
            if not self.goes_on(message):
                return
            yield message.tp, message

    def _is_source(self, tp: TP) -> bool:
        return self.app.topics.acks_enabled_for(tp.topic)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
