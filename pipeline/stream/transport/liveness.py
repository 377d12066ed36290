"""Whether what has to run as long as the worker does still runs: aiokafka's tasks, a thread.

When one of aiokafka's tasks ends with an error, aiokafka raises that error in those of its own
methods that wait for the task. Faust calls other methods, so nobody would notice: the worker would
stay alive and read nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


def task_failure(
    consumer: AIOKafkaConsumer | None, producer: AIOKafkaProducer | None
) -> BaseException | None:
    """Return the error with which one of their tasks has ended; None if all of them still run.

    Safe to call from any thread.
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
        # Neither of these exists before it has started.
        if consumer._fetcher is not None:  # noqa: SLF001
            yield consumer._fetcher._fetch_task  # noqa: SLF001
        if consumer._coordinator is not None:  # noqa: SLF001
            yield consumer._coordinator._coordination_task  # noqa: SLF001
    if producer is not None:
        yield producer.client._sync_task  # noqa: SLF001
        yield producer._sender.sender_task  # noqa: SLF001


class Pulse:
    """Checks whether the event loop of another thread still runs.

    It counts unanswered pings, not seconds: a process that was frozen, or got no processor time,
    has not hung.
    """

    def __init__(self) -> None:
        self._unanswered = 0

    def ping(self, loop: asyncio.AbstractEventLoop) -> int:
        """Send one more ping; return how many earlier ones are still unanswered."""
        unanswered, self._unanswered = self._unanswered, self._unanswered + 1
        if loop.is_closed():  # it has ended, which is not the same as hanging
            return 0
        loop.call_soon_threadsafe(self._answered)
        return unanswered

    def _answered(self) -> None:
        self._unanswered = 0
