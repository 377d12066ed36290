"""The process that runs a command: its streams, its end."""

from __future__ import annotations

import io
import os
import sys
import threading

from pipeline.cli.root import firstseen


def run() -> None:
    """Run the command line and leave with its exit code (docs/reference/exit-codes.md)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What the terminal's encoding cannot express (a file name of stray bytes) is escaped;
            # it must not end a command in the middle.
            stream.reconfigure(errors="backslashreplace")
    try:
        firstseen.main(prog_name="firstseen")
    except SystemExit as ended:
        if not _threads_remain():
            raise
        # Faust's threads may outlive its loop, and the interpreter would wait for them. Everything
        # that matters is committed by now.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)


def _threads_remain() -> bool:
    return any(
        not thread.daemon and thread is not threading.main_thread()
        for thread in threading.enumerate()
    )
