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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.errors import DeliveryError


class AsyncProducer(Protocol):
    """What the outbox needs of `aiokafka.AIOKafkaProducer`."""

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
    """Where an acknowledged record went."""

    topic: str
    partition: int
    offset: int


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
        self._pending: set[asyncio.Future[Any]] = set()
        self._room = asyncio.Event()
        self._room.set()
        self.failure: DeliveryError | None = None

    def __len__(self) -> int:
        return len(self._pending)

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
        while not self._room.is_set():
            await self._room.wait()
        if self.failure is not None:
            raise self.failure
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
        self._pending.add(future)
        if len(self._pending) >= self._max_records:
            self._room.clear()
        future.add_done_callback(lambda done: self._done(topic, done, on_acknowledged))
        return future

    def _done(
        self,
        topic: str,
        future: asyncio.Future[Any],
        on_acknowledged: Callable[[Delivery], None] | None,
    ) -> None:
        self._pending.discard(future)
        if len(self._pending) < self._max_records:
            self._room.set()
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._fail(topic, error)
        elif on_acknowledged is not None:
            sent = future.result()
            on_acknowledged(Delivery(sent.topic, sent.partition, sent.offset))

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


def _failed(future: asyncio.Future[Any]) -> bool:
    return future.cancelled() or future.exception() is not None
