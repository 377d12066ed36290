"""Memory for what brokers send, used again and again.

Fresh memory is dear: the kernel clears each page before it is written for the first time, which for
a fetch of some megabytes takes as long as receiving it.
"""

from __future__ import annotations

from typing import Final

_SMALL: Final = 64 << 10
_STEP: Final = 1 << 20


class Buffers:
    """Lends memory and notices by itself when it is free again.

    A bytearray refuses to change its length as long as a view of it exists; so whoever holds a view
    of what was lent holds the memory, and nobody has to give anything back.

    Args:
        kept: how many buffers are kept at most. What is lent beyond is forgotten when it is free.
    """

    def __init__(self, kept: int) -> None:
        self._most = kept
        self._kept: list[bytearray] = []

    def lend(self, size: int) -> memoryview:
        """Return a view of so many bytes, which hold anything."""
        if size < _SMALL:
            return memoryview(bytearray(size))
        free = [buffer for buffer in self._kept if _is_free(buffer)]
        for buffer in sorted(free, key=len):
            if len(buffer) >= size:
                return memoryview(buffer)[:size]
        # Each of them is too small for what comes nowadays.
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
