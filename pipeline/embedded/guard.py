"""Run a program that ends when whoever started this one does: ``guard.py PROGRAM ARGUMENT...``.

The starter keeps the other end of this process's standard input. The kernel closes it however the
starter ends, a SIGKILL included, and the program is killed. Linux's ``PR_SET_PDEATHSIG`` alone
would not do: it is bound to the *thread* that forked, and kills the program when only that thread
ends. Here it is one that lives as long as this process, so that this one's end is covered too.

Started by path with ``python -I -S``, so it imports the standard library and nothing of ours.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading

_ASKED_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


def main() -> int:
    # Held back until the answer to them is in place: a stop right after the start is not lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ASKED_TO_STOP)
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def before_program() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED_TO_STOP)
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    program = subprocess.Popen(  # noqa: S603  (arguments of our own starter, no shell)
        sys.argv[1:],
        stdin=subprocess.DEVNULL,
        preexec_fn=before_program,  # noqa: PLW1509  (safe: no thread runs yet)
    )

    def kill_with_starter() -> None:
        while os.read(0, 4096):
            pass
        program.kill()

    for number in _ASKED_TO_STOP:
        signal.signal(number, lambda *_: program.terminate())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED_TO_STOP)
    threading.Thread(target=kill_with_starter, daemon=True).start()
    return program.wait()


if __name__ == "__main__":
    sys.exit(main())
