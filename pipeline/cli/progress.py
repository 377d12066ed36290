"""Progress of reading, on a status line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.cli.status_line import StatusLine

_REFRESH_SECONDS = 0.1
_BAR_CHARACTERS = 30
_COMPRESSED = (".gz", ".zst")


def bar(share: float) -> str:
    """Return a bar for a share from 0 to 1, and the share in per cent."""
    return f"{('━' * round(share * _BAR_CHARACTERS)).ljust(_BAR_CHARACTERS, '┄')} {share:4.0%}"


class ReadingProgress:
    """A bar over the bytes of all files; only a counter if their size is unknown.

    Args:
        paths: the files that are read.
        status: the line to show it on; None shows nothing.
    """

    def __init__(self, paths: Sequence[Path], status: StatusLine | None) -> None:
        self._status = status
        self._total = _total_bytes(paths)
        self._bytes = 0
        self._lines = 0
        self._started = self._shown = time.monotonic()

    def read(self, size: int) -> None:
        """Note that a line of this many bytes was read."""
        self._lines += 1
        self._bytes += size
        if self._status is not None:
            now = time.monotonic()
            if now - self._shown > _REFRESH_SECONDS:
                self._shown = now
                self._status.show(self._text(now))

    def make_way(self) -> None:
        """Clear the bar, so that something else can be written; it comes back by itself."""
        if self._status is not None:
            self._status.clear()

    def _text(self, now: float) -> str:
        rate = self._lines / max(now - self._started, 1e-3)
        lines = f"{self._lines:,} lines · {rate:,.0f} a second"
        read = f"{self._bytes / 1e6:,.1f}"
        if not self._total:
            return f"{read} MB · {lines}"
        share = min(1.0, self._bytes / self._total)
        return f"{bar(share)} · {read} of {self._total / 1e6:,.1f} MB · {lines}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.make_way()


def _total_bytes(paths: Sequence[Path]) -> int | None:
    """Return the size of all files; None if one is compressed or standard input."""
    if any(str(path) == "-" or path.suffix in _COMPRESSED for path in paths):
        return None
    return sum(path.stat().st_size for path in paths)
