"""`firstseen worker` under chaos: its clock can be moved, and it can be told where to die.

    python -m tests.chaos.worker worker

    CHAOS_CLOCK   file with the shift of the clock: see `tests.chaos.clock`

and what `tests.failing_worker` knows.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

from tests.chaos.clock import shift_clock

_PR_SET_PDEATHSIG = 1


def _die_with_the_tests() -> None:
    """Let the kernel kill this worker when the thread that started it ends, however it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    _die_with_the_tests()
    shift_clock(Path(os.environ["CHAOS_CLOCK"]))
    # Only now: a module may take the function `time` out of its module when it is imported.
    from pipeline.cli import main
    from tests import failing_worker

    failing_worker.install()
    main()
