"""Run a program that ends when its starter does: ``guard.py PROGRAM ARGUMENT...``.

The starter keeps the other end of this process's standard input. The kernel closes it however the
starter ends, SIGKILL included, and then this process kills the program.

Linux's ``PR_SET_PDEATHSIG`` alone would not do: it is bound to the *thread* that forked, and kills
the program when only that thread ends. Here the thread lives as long as this process, so the signal
covers the case that this process itself is killed.

This file is started by path with ``python -I -S``, so it imports only the standard library and
nothing of ours.
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
    # Blocked until their handlers are in place, so that a stop right after the start is not lost.
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
