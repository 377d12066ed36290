"""Tasks of aiokafka that run as long as the worker does.

aiokafka raises the error with which one of them ends where its own methods wait for it. Faust calls
others, so nobody would be told: the worker would stay as it is, and read nothing.
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
