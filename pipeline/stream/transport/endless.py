"""What runs as long as the worker does: tasks of aiokafka, and the consumer's thread.

aiokafka raises the error with which one of its tasks ends where its own methods wait for it. Faust
calls others, so nobody would be told: the worker would stay as it is, and read nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


def unexpected_end(
    consumer: AIOKafkaConsumer | None, producer: AIOKafkaProducer | None
) -> BaseException | None:
    """Return the error with which a task of one of them has ended; None if all go on.

    Safe to call in any thread.
    """
    for task in _tasks(consumer, producer):
        if task is not None and task.done() and not task.cancelled() and task.exception():
            return task.exception()
    return None


def _tasks(
    consumer: AIOKafkaConsumer | None, producer: AIOKafkaProducer | None
) -> Iterator[asyncio.Future[Any] | None]:
    if consumer is not None:
        yield consumer._client._sync_task  # noqa: SLF001
        # There is neither of these before it has started.
        if consumer._fetcher is not None:  # noqa: SLF001
            yield consumer._fetcher._fetch_task  # noqa: SLF001
        if consumer._coordinator is not None:  # noqa: SLF001
            yield consumer._coordinator._coordination_task  # noqa: SLF001
    if producer is not None:
        yield producer.client._sync_task  # noqa: SLF001
        yield producer._sender.sender_task  # noqa: SLF001


class Pulse:
    """Asks the loop of another thread whether it goes on.

    What is counted is how often it was asked, not seconds: a process that was frozen, or had no
    processor, has not hung.
    """

    def __init__(self) -> None:
        self._unanswered = 0

    def ask(self, loop: asyncio.AbstractEventLoop) -> int:
        """Ask once more; return how often it was asked since it answered last."""
        unanswered, self._unanswered = self._unanswered, self._unanswered + 1
        if loop.is_closed():  # it has ended, and does not hang
            return 0
        loop.call_soon_threadsafe(self._answered)
        return unanswered

    def _answered(self) -> None:
        self._unanswered = 0
