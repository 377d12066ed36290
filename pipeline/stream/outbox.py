"""Produced records that the broker has not acknowledged yet, and the commit gate they hold shut.

Faust's ``await topic.send()`` only buffers a record, and a commit in Faust does not wait for what
was buffered. Here, every record that a worker produces (observations, new terms, alerts, dead
letters and the changelogs of its tables) goes through one `Outbox`:

* Offsets may be committed only when everything that was sent before they were read has been
  acknowledged (`settle`).
* One failed delivery shuts the gate for good: the worker stops without a commit, and the replay
  repeats the work under the same ids.

Records for one partition are gathered for a few milliseconds, and for as long as the previous batch
is in flight. A batch costs about the same whether it holds one record or a hundred, so a round trip
is paid per batch and not per record.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

from pipeline.clock import now_ms
from pipeline.engine.partition import partition_of
from pipeline.errors import DeliveryError


class Batch(Protocol):
    """The methods of a batch that the outbox uses; see `pipeline.stream.transport.producer`."""

    def extend(self, records: Sequence[Outgoing], start: int, timestamp_ms: int) -> int:
        """Add as many records as fit, from index ``start`` on; return how many were added."""

    def close(self) -> None: ...


class AsyncProducer(Protocol):
    """The methods of `aiokafka.AIOKafkaProducer` that the outbox uses."""

    def create_batch(self) -> Batch: ...

    async def send_batch(
        self, batch: Batch, topic: str, *, partition: int
    ) -> asyncio.Future[Any]: ...

    async def partitions_for(self, topic: str) -> set[int]: ...

    async def send(
        self,
        topic: str,
        *,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> asyncio.Future[Any]: ...


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The position of an acknowledged record; for a group of records, of the last one."""

    topic: str
    partition: int
    offset: int


class Outgoing(NamedTuple):
    """A record to produce."""

    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size(self) -> int:
        return len(self.key) + len(self.value or b"")


def size_of(records: Iterable[Outgoing]) -> int:
    """Return the total size of keys and values in bytes."""
    return sum([len(key) + len(value or b"") for key, value, _ in records])


OnAcknowledged = Callable[[Acknowledgement], None]


@dataclass(slots=True, eq=False)
class _RecordGroup:
    """Records for one partition that were handed over together.

    Attributes:
        count: the number of records.
        size: their size in bytes.
        done: resolves when the broker has acknowledged all of them.
        records: the records, until all of them are in a batch.
        packed: how many of them are in a batch already.
        timestamp_ms: when they were handed over.
        since: the same by the monotonic clock, in seconds.
    """

    topic: str
    count: int
    size: int
    on_acknowledged: OnAcknowledged | None
    done: asyncio.Future[Acknowledgement]
    records: Sequence[Outgoing] = ()
    packed: int = 0
    timestamp_ms: int = 0
    since: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class _PartitionQueue:
    """Groups that wait for one partition, in order; only one batch at a time is in flight."""

    topic: str
    partition: int
    waiting: deque[_RecordGroup] = field(default_factory=deque)
    on_its_way: bool = False

    @property
    def is_ready(self) -> bool:
        return bool(self.waiting) and not self.on_its_way


class Outbox:
    """Sends records and remembers them until they are acknowledged.

    Args:
        producer: returns the started producer (Faust creates it late).
        linger_seconds: how long records for a partition are gathered.
        max_records: the number of unacknowledged records from which `send` waits.
        max_bytes: the size of unacknowledged records from which `send` waits; this bounds memory.
        on_failure: called once, with the error of the first delivery that failed.
    """

    def __init__(
        self,
        producer: Callable[[], AsyncProducer],
        *,
        linger_seconds: float = 0.0,
        max_records: int = 20_000,
        max_bytes: int = 16 << 20,
        on_failure: Callable[[DeliveryError], None] | None = None,
    ) -> None:
        self._producer = producer
        self._linger = linger_seconds
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._on_failure = on_failure
        self._queues: dict[tuple[str, int], _PartitionQueue] = {}
        self._pending: set[_RecordGroup] = set()
        self._records = 0
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._timer: asyncio.TimerHandle | None = None
        self._shipping: set[asyncio.Task[None]] = set()
        self.failure: DeliveryError | None = None

    def __len__(self) -> int:
        return self._records

    async def send(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        on_acknowledged: OnAcknowledged | None = None,
    ) -> asyncio.Future[Acknowledgement]:
        """Hand a record to the producer, which chooses its partition.

        Returns:
            A future that resolves when the broker has acknowledged the record.

        Raises:
            DeliveryError: an earlier delivery failed, or the producer refuses this record.
        """
        if key is None and value is None:
            key = b""  # aiokafka refuses a record without key and value
        await self._wait_for_room()
        try:
            sent = await self._producer().send(
                topic, value=value, key=key, headers=list(headers) or None
            )
        except Exception as exc:
            raise self._fail(topic, exc) from exc
        size = len(key or b"") + len(value or b"")
        group = self._remember(topic, 1, size, on_acknowledged)
        sent.add_done_callback(partial(self._arrived, None, [(group, 0)]))
        return group.done

    async def send_keyed(
        self,
        topic: str,
        records: Sequence[Outgoing],
        on_acknowledged: OnAcknowledged | None = None,
    ) -> list[asyncio.Future[Acknowledgement]]:
        """Send records to the partitions of their keys; order is kept within each partition.

        Raises:
            DeliveryError: the partitions of the topic are unknown, or see `send_to`.
        """
        if not records:
            return []
        try:
            partitions = len(await self._producer().partitions_for(topic))
        except Exception as exc:
            raise self._fail(topic, exc) from exc
        by_partition: dict[int, list[Outgoing]] = {}
        for record in records:
            by_partition.setdefault(partition_of(record.key, partitions), []).append(record)
        return [
            await self.send_to(topic, number, group, on_acknowledged)
            for number, group in by_partition.items()
        ]

    async def send_to(
        self,
        topic: str,
        partition: int,
        records: Sequence[Outgoing],
        on_acknowledged: OnAcknowledged | None = None,
    ) -> asyncio.Future[Acknowledgement]:
        """Queue one or more records for a partition; their order is kept.

        Returns:
            A future that resolves when the broker has acknowledged all of them.

        Raises:
            DeliveryError: an earlier delivery failed.
        """
        await self._wait_for_room()
        group = self._remember(topic, len(records), size_of(records), on_acknowledged)
        group.timestamp_ms = now_ms()
        group.records = records
        queue = self._queues.get((topic, partition))
        if queue is None:
            queue = self._queues[topic, partition] = _PartitionQueue(topic, partition)
        queue.waiting.append(group)
        self._ship_soon()
        return group.done

    def waiting_seconds(self) -> float:
        """Return for how long the oldest record has been unacknowledged; 0 if there is none."""
        oldest = min((group.since for group in self._pending), default=None)
        return 0.0 if oldest is None else time.monotonic() - oldest

    def _ship_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._linger, self._ship_now)

    def _ship_now(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.failure is None and any(queue.is_ready for queue in self._queues.values()):
            task = asyncio.get_running_loop().create_task(self._ship())
            self._shipping.add(task)
            task.add_done_callback(self._shipping.discard)

    async def _ship(self) -> None:
        """Send a batch to each partition that has records waiting and no batch in flight."""
        for queue in list(self._queues.values()):
            if queue.is_ready:
                queue.on_its_way = True
                try:
                    await self._send_batch(queue)
                except Exception as exc:  # noqa: BLE001 - whatever it is, these are not sent
                    self._fail(queue.topic, exc)
                    return

    async def _send_batch(self, queue: _PartitionQueue) -> None:
        producer = self._producer()
        batch = producer.create_batch()
        packed = _pack(batch, queue.waiting)
        sent = await producer.send_batch(batch, queue.topic, partition=queue.partition)
        sent.add_done_callback(partial(self._arrived, queue, packed))

    def _arrived(
        self,
        queue: _PartitionQueue | None,
        packed: list[tuple[_RecordGroup, int]],
        sent: asyncio.Future[Any],
    ) -> None:
        """Handle the result of a batch; `packed` is what `_pack` returned."""
        error = asyncio.CancelledError() if sent.cancelled() else sent.exception()
        if error is not None:
            self._fail(queue.topic if queue is not None else packed[0][0].topic, error)
            return
        first = sent.result()
        for group, place in packed:
            self._forget(group)
            acknowledged = Acknowledgement(first.topic, first.partition, first.offset + place)
            if group.on_acknowledged is not None:
                group.on_acknowledged(acknowledged)
            if not group.done.done():
                group.done.set_result(acknowledged)
        if queue is not None:
            queue.on_its_way = False
            if queue.waiting:
                self._ship_soon()

    async def _wait_for_room(self) -> None:
        while not self._room.is_set():
            await self._room.wait()
        if self.failure is not None:
            raise self.failure

    def _remember(
        self, topic: str, count: int, size: int, on_acknowledged: OnAcknowledged | None
    ) -> _RecordGroup:
        done = asyncio.get_running_loop().create_future()
        group = _RecordGroup(topic, count, size, on_acknowledged, done)
        self._pending.add(group)
        self._records += count
        self._bytes += size
        self._measure_room()
        return group

    def _forget(self, group: _RecordGroup) -> None:
        self._pending.discard(group)
        self._records -= group.count
        self._bytes -= group.size
        self._measure_room()

    def _measure_room(self) -> None:
        if self.failure is None and (
            self._records >= self._max_records or self._bytes >= self._max_bytes
        ):
            self._room.clear()
        else:
            self._room.set()

    def _fail(self, topic: str, cause: BaseException) -> DeliveryError:
        if self.failure is None:
            self.failure = DeliveryError(
                f"a record for topic {topic} was not acknowledged: {cause!r}; nothing past it is "
                f"committed, so a restart repeats the work. Check the brokers and the topic",
                topic=topic,
            )
            self.failure.__cause__ = cause
            self._room.set()
            for group in self._pending:
                if not group.done.done():
                    group.done.set_exception(self.failure)
                    group.done.exception()  # nobody has to retrieve it: the worker stops anyway
            if self._on_failure is not None:
                self._on_failure(self.failure)
        return self.failure

    async def settle(self, seconds: float) -> bool:
        """Wait until everything that is unacknowledged now has been acknowledged.

        Returns:
            False if that took longer than ``seconds``: try again later.

        Raises:
            DeliveryError: a delivery has failed, so this process may not commit any more.
        """
        pending = list(self._pending)
        if pending and self.failure is None:
            self._ship_now()
            await asyncio.wait([group.done for group in pending], timeout=seconds)
        if self.failure is not None:
            raise self.failure
        return self._pending.isdisjoint(pending)


def _pack(batch: Batch, waiting: deque[_RecordGroup]) -> list[tuple[_RecordGroup, int]]:
    """Move records into a batch until it is full.

    Returns:
        The groups whose last record is in the batch, each with that record's index in the batch.

    Raises:
        ValueError: the first record is too large for any batch.
    """
    whole = []
    count = 0
    while waiting:
        group = waiting[0]
        added = batch.extend(group.records, group.packed, group.timestamp_ms)
        group.packed += added
        count += added
        if group.packed < group.count:
            if not count:
                size = group.records[group.packed].size
                raise ValueError(f"a record of {size} bytes fits no batch")
            break
        waiting.popleft()
        group.records = ()
        whole.append((group, count - 1))
    batch.close()
    return whole
