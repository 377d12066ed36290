"""Run a program that ends when whoever started this one does: ``guard.py PROGRAM ARGUMENT...``.

The starter keeps the other end of this process's standard input. The kernel closes it however the
starter ends, a SIGKILL included, and the program is killed. That is why it is a process of its
own and not Linux's ``PR_SET_PDEATHSIG``: that one is bound to the *thread* that forked and kills
the program when only the thread ends.

Started by path with ``python -I -S``, so it imports the standard library and nothing of ours.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    # Masked until the answer to them is in place: a stop right after the start is not lost.
    asked = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, asked)
    program = subprocess.Popen(  # noqa: S603  (arguments of our own starter, no shell)
        sys.argv[1:],
        stdin=subprocess.DEVNULL,
        # Safe: no thread runs yet.
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, asked),  # noqa: PLW1509
    )

    def kill_with_starter() -> None:
        while os.read(0, 4096):
            pass
        program.kill()

    for number in asked:
        signal.signal(number, lambda *_: program.terminate())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, asked)
    threading.Thread(target=kill_with_starter, daemon=True).start()
    return program.wait()


if __name__ == "__main__":
    sys.exit(main())
