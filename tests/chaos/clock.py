"""A clock that can be moved: eight bytes in a file, which the worker adds to the time.

`tests.chaos.worker` puts `shift_clock` in place before anything of the product is imported. The
monotonic clock stays as it is, as it does when an operator or NTP sets the time of a machine.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

_OFFSET = struct.Struct("q")


class ClockFile:
    """The side of the tests: how far the clock of a worker is off, in seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.move(0)

    def move(self, seconds: int) -> None:
        # In place: the worker has the file mapped.
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.write(_OFFSET.pack(seconds * 1_000_000_000))


def shift_clock(path: Path) -> None:
    """Let `time.time` and `time.time_ns` of this process follow the file."""
    with path.open("rb") as file:
        shared = mmap.mmap(file.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)
    true_time_ns = time.time_ns

    def time_ns() -> int:
        shift: int = _OFFSET.unpack_from(shared)[0]
        return true_time_ns() + shift

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9
