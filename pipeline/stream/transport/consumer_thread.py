"""The thread that fetches: what it has scanned, where it seeks, how far a partition can be read.

It owns the aiokafka consumer, with its fetcher and its membership in the group. The event loop of
the worker reaches it through `pipeline.stream.transport.consumer`, which says what is wrong with
Faust's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from pipeline.stream.offsets import OffsetTracker
from pipeline.stream.transport.fetcher import FilteringFetcher
from pipeline.stream.transport.liveness import Pulse
from pipeline.stream.transport.membership import MemberCoordinator
from pipeline.stream.transport.options import TransportOptions

_FULL_SECONDS = 0.02


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

    def next_offset(self, tp: TP) -> int:
        subscription = self._ensure_consumer()._subscription.subscription  # noqa: SLF001
        assignment = None if subscription is None else subscription.assignment
        state = None if assignment is None else assignment.state_value(tp)
        return int(state.position) if state is not None and state.has_valid_position else -1

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


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
