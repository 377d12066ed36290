"""Decisions of the quota on their way out: in order, and within a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.engine.quota import Output

_OVERHEAD_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class PendingOutputs:
    """Decisions of a bundle whose outputs wait for the changelog records they rest on."""

    changelog: list[asyncio.Future[Any]]
    outputs: Sequence[Output]
    message: Any

    @property
    def size(self) -> int:
        return _OVERHEAD_BYTES + sum(len(output.value) for output in self.outputs)


class PendingQueue:
    """What is decided and not sent yet, in order: so many bytes, or one of them that is larger.

    All agents wait for room in the outbox alike, so outputs leave it no faster than others fill it.
    Without this bound the decisions of a flood gathered here, a gigabyte in a minute.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._queue: asyncio.Queue[PendingOutputs] = asyncio.Queue()
        self._room = asyncio.Event()

    async def put(self, pending: PendingOutputs) -> None:
        while self._bytes and self._bytes + pending.size > self._max_bytes:
            self._room.clear()
            await self._room.wait()
        self._bytes += pending.size
        self._queue.put_nowait(pending)

    async def get(self) -> PendingOutputs:
        return await self._queue.get()

    def sent(self, pending: PendingOutputs) -> None:
        """Make room: the outbox holds the outputs now."""
        self._bytes -= pending.size
        self._room.set()
