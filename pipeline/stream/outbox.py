"""Produced records that the broker has not acknowledged yet, and the gate they hold shut.

``await topic.send()`` of Faust only buffers, and a commit of Faust does not wait for what it
buffered. Here every record that a worker produces (observations, new terms, alerts, dead letters
and the changelog of its tables) goes through one `Outbox`. An offset may be committed only when
everything that was sent before the offsets were read is acknowledged (`settle`). One failed
delivery shuts the gate for good: the worker stops without a commit, and the replay repeats the
work under the same ids.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from pipeline.engine.partition import partition_of
from pipeline.errors import DeliveryError


class BatchBuilder(Protocol):
    """What the outbox needs of aiokafka's ``BatchBuilder``."""

    def append(
        self,
        *,
        timestamp: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> object | None: ...


class AsyncProducer(Protocol):
    """What the outbox needs of `aiokafka.AIOKafkaProducer`."""

    def create_batch(self) -> BatchBuilder: ...

    async def send_batch(
        self, batch: BatchBuilder, topic: str, *, partition: int
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
class Delivery:
    """Where an acknowledged record went; of several, where the last one went."""

    topic: str
    partition: int
    offset: int


class Outgoing(NamedTuple):
    """A record to produce."""

    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Outbox:
    """Sends records and remembers them until they are acknowledged.

    Args:
        producer: returns the started producer (Faust makes it late).
        max_records: how many unacknowledged records make `send` wait: what bounds the memory.
        on_failure: called once with the error of the first delivery that failed.
    """

    def __init__(
        self,
        producer: Callable[[], AsyncProducer],
        *,
        max_records: int = 20_000,
        on_failure: Callable[[DeliveryError], None] | None = None,
    ) -> None:
        self._producer = producer
        self._max_records = max_records
        self._on_failure = on_failure
        self._pending: dict[asyncio.Future[Any], int] = {}
        self._records = 0
        self._room = asyncio.Event()
        self._room.set()
        self.failure: DeliveryError | None = None

    def __len__(self) -> int:
        return self._records

    async def send(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        on_acknowledged: Callable[[Delivery], None] | None = None,
    ) -> asyncio.Future[Any]:
        """Hand a record to the producer; the future ends when the broker has acknowledged it.

        Raises:
            DeliveryError: an earlier delivery failed, or the producer refuses this record.
        """
        if key is None and value is None:
            key = b""  # Kafka allows neither, aiokafka refuses it; an empty key stands in
        await self._wait_for_room()
        try:
            future = await self._producer().send(
                topic,
                value=value,
                key=key,
                partition=partition,
                headers=list(headers) or None,
            )
        except Exception as exc:
            raise self._fail(topic, exc) from exc
        self._remember(topic, future, 1, on_acknowledged)
        return future

    async def send_keyed(
        self,
        topic: str,
        records: Sequence[Outgoing],
        on_acknowledged: Callable[[Delivery], None] | None = None,
    ) -> list[asyncio.Future[Any]]:
        """Send records to the partitions of their keys, in batches; order is kept by partition.

        Raises:
            DeliveryError: see `send`.
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
        futures = []
        for partition, group in by_partition.items():
            futures += await self.send_to(topic, partition, group, on_acknowledged)
        return futures

    async def send_to(
        self,
        topic: str,
        partition: int,
        records: Sequence[Outgoing],
        on_acknowledged: Callable[[Delivery], None] | None = None,
    ) -> list[asyncio.Future[Any]]:
        """Send records to one partition, in their order, in as few batches as they fit in.

        Raises:
            DeliveryError: see `send`.
        """
        futures = []
        producer = self._producer()
        rest: deque[Outgoing] = deque(records)
        timestamp = time.time_ns() // 1_000_000
        while rest:
            batch = producer.create_batch()
            count = 0
            while rest and _append(batch, rest[0], timestamp):
                rest.popleft()
                count += 1
            futures.append(await self._send_batch(topic, partition, batch, count, on_acknowledged))
        return futures

    async def _send_batch(
        self,
        topic: str,
        partition: int,
        batch: BatchBuilder,
        count: int,
        on_acknowledged: Callable[[Delivery], None] | None,
    ) -> asyncio.Future[Any]:
        await self._wait_for_room()
        try:
            future = await self._producer().send_batch(batch, topic, partition=partition)
        except Exception as exc:
            raise self._fail(topic, exc) from exc
        self._remember(topic, future, count, on_acknowledged)
        return future

    async def _wait_for_room(self) -> None:
        while not self._room.is_set():
            await self._room.wait()
        if self.failure is not None:
            raise self.failure

    def _remember(
        self,
        topic: str,
        future: asyncio.Future[Any],
        count: int,
        on_acknowledged: Callable[[Delivery], None] | None,
    ) -> None:
        self._pending[future] = count
        self._records += count
        if self._records >= self._max_records:
            self._room.clear()
        future.add_done_callback(lambda done: self._done(topic, done, on_acknowledged))

    def _done(
        self,
        topic: str,
        future: asyncio.Future[Any],
        on_acknowledged: Callable[[Delivery], None] | None,
    ) -> None:
        count = self._pending.pop(future, 0)
        self._records -= count
        if self._records < self._max_records:
            self._room.set()
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._fail(topic, error)
        elif on_acknowledged is not None:
            sent = future.result()
            # Of a batch the broker tells the offset of its first record.
            on_acknowledged(Delivery(sent.topic, sent.partition, sent.offset + count - 1))

    def _fail(self, topic: str, cause: BaseException) -> DeliveryError:
        if self.failure is None:
            self.failure = DeliveryError(
                f"a record for topic {topic} was not acknowledged: {cause!r}; nothing past it is "
                f"committed, so a restart repeats the work. Check the brokers and the topic"
            )
            self.failure.__cause__ = cause
            self._room.set()
            if self._on_failure is not None:
                self._on_failure(self.failure)
        return self.failure

    async def settle(self, seconds: float) -> bool:
        """Wait until all that is unacknowledged now has been acknowledged.

        Returns:
            False if that took longer than ``seconds``: try again later.

        Raises:
            DeliveryError: a delivery has failed; committing is over for this process.
        """
        pending = set(self._pending)
        if pending:
            await asyncio.wait(pending, timeout=seconds)
        if self.failure is not None:
            raise self.failure
        # A future can be done while the callback that records its failure still waits its turn.
        return all(future.done() and not _failed(future) for future in pending)


def _append(batch: BatchBuilder, record: Outgoing, timestamp: int) -> bool:
    added = batch.append(
        timestamp=timestamp, key=record.key, value=record.value, headers=list(record.headers)
    )
    return added is not None


def _failed(future: asyncio.Future[Any]) -> bool:
    return future.cancelled() or future.exception() is not None
