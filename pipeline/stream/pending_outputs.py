"""Outputs of the quota on their way out: in order, and within a memory bound."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.engine.quota import Output

_OVERHEAD_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class PendingOutputs:
    """The outputs of a bundle, which wait for the changelog records they depend on."""

    changelog: list[asyncio.Future[Any]]
    outputs: Sequence[Output]
    message: Any

    @property
    def size(self) -> int:
        return _OVERHEAD_BYTES + sum(len(output.value) for output in self.outputs)


class PendingQueue:
    """Outputs that are decided but not sent yet, in order, up to a number of bytes.

    A single entry may be larger than the bound. The bound is needed because all agents compete for
    room in the outbox, so outputs do not leave faster than other records come in: without it, the
    outputs of a flood piled up here at a gigabyte per minute.
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
        """Make room, because the outbox holds the outputs now."""
        self._bytes -= pending.size
        self._room.set()
