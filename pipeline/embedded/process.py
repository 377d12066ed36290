"""A server process that never outlives us, and free ports for it to listen on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_GUARD = Path(__file__).with_name("guard.py")
# Below the range that Linux uses for the source ports of outgoing connections (32768 and up). On a
# port in that range, a client that keeps reconnecting to a stopped server can end up connected to
# itself, and the server then finds its own port taken when it comes back.
_PORTS = range(20_000, 32_768)
_POLL_SECONDS = 0.02
_KILL_SECONDS = 10.0


def free_ports(count: int) -> list[int]:
    """Return `count` different TCP ports of 127.0.0.1 on which nobody listens right now.

    Raises:
        OSError: fewer than `count` are free.
    """
    free: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            return free
    raise OSError(f"only {len(free)} of {count} TCP ports are free on 127.0.0.1")


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Poll `condition` until it holds; return False if it did not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


class ServerProcess:
    """A program in its own session that is killed when this process ends, however that happens.

    A terminal's Ctrl-C does not reach it: its owner stops it, at the time that suits the owner.

    Args:
        command: the program and its arguments.
        log: a file to which standard output and error are appended; None discards them.
        env: the complete environment of the program.

    Raises:
        OSError: the program or the log cannot be opened.
    """

    def __init__(self, command: Sequence[str], *, log: Path | None, env: Mapping[str, str]) -> None:
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(log.open("ab")) if log else subprocess.DEVNULL
            self._process = subprocess.Popen(  # noqa: S603  (no shell; the caller's own program)
                [sys.executable, "-I", "-S", str(_GUARD), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the guard, whose only child is the program."""
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self, *, seconds: float = 10.0) -> None:
        """Ask the program to stop (SIGTERM) and wait; kill what is left after `seconds`."""
        if self.running:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """Kill the program (SIGKILL); when this returns, its ports are free."""
        # Through the guard, which waits for its child. If the whole group were killed from here,
        # the program would end a moment later, and nobody could tell when.
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
