"""Ctrl-C while the command line is being imported.

Python would raise KeyboardInterrupt in the middle of some import, where nobody catches it. This
module imports next to nothing, as it can do nothing about an interrupt before it is there.
"""

from __future__ import annotations

import os
import signal

EXIT_INTERRUPTED = 130
"""128 plus the number of SIGINT, as shells report it."""


def end_on_interrupt() -> None:
    """From now on, Ctrl-C ends the process at once and silently.

    An interrupt that is ignored (by a job in the background of a script) stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_on_interrupt() -> None:
    """From now on, Ctrl-C raises KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_number: int, _frame: object) -> None:
    os._exit(EXIT_INTERRUPTED)
