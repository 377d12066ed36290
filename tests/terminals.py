"""What a command writes to a terminal."""

from __future__ import annotations

import os
from contextlib import suppress


def written_to(terminal: int) -> str:
    """Return what is written to a terminal until its last writer ends; then close our end of it.

    A terminal holds 4 KB, so a writer of more waits until somebody reads.
    """
    written = b""
    with suppress(OSError):  # nobody has it open any more
        while more := os.read(terminal, 4096):
            written += more
    os.close(terminal)
    return written.decode()
