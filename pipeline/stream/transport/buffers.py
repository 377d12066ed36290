"""Reusable memory for what brokers send.

Fresh memory is expensive: the kernel clears each page before it is written for the first time. For
a fetch of some megabytes, that takes as long as receiving it.
"""

from __future__ import annotations

from typing import Final

_SMALL: Final = 64 << 10
_STEP: Final = 1 << 20


class Buffers:
    """Lends memory, and notices by itself when it is free again.

    A bytearray refuses to change its length while a view of it exists. So whoever holds a view of
    lent memory keeps it reserved, and nobody has to give anything back.

    Args:
        kept: the maximum number of buffers to keep. Others are not reused when they are free.
    """

    def __init__(self, kept: int) -> None:
        self._most = kept
        self._kept: list[bytearray] = []

    def lend(self, size: int) -> memoryview:
        """Return a view of this many bytes, with arbitrary content."""
        if size < _SMALL:
            return memoryview(bytearray(size))
        free = [buffer for buffer in self._kept if _is_free(buffer)]
        for buffer in sorted(free, key=len):
            if len(buffer) >= size:
                return memoryview(buffer)[:size]
        # Each free buffer is too small for what comes now.
        self._kept = [buffer for buffer in self._kept if not any(buffer is one for one in free)]
        buffer = bytearray(-(-size // _STEP) * _STEP)
        if len(self._kept) < self._most:
            self._kept.append(buffer)
        return memoryview(buffer)[:size]

    @property
    def kept_bytes(self) -> int:
        return sum(map(len, self._kept))


def _is_free(buffer: bytearray) -> bool:
    try:
        last = buffer.pop()
    except BufferError:
        return False
    buffer.append(last)
    return True
