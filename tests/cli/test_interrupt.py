"""Ctrl-C while a command is being imported ends it silently."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

INTERRUPTED_AT = """
import os, signal, sys

interrupted_at = sys.argv.pop(1)

class Interrupt:
    def find_spec(self, name, *_):
        if name == interrupted_at:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from pipeline.cli import main
main()
"""


def interrupted_at(module: str, **options: object) -> tuple[int, str]:
    """Interrupt `firstseen config check` when it imports a module; return exit code and stderr."""
    done = subprocess.run(  # type: ignore[call-overload]
        [sys.executable, "-c", INTERRUPTED_AT, module, "config", "check"],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("module", ["pipeline.cli.root", "click", "pipeline.cli.lazy"])
def test_before_any_command_is_known(module: str) -> None:
    assert interrupted_at(module) == (130, "")


@pytest.mark.parametrize("module", ["pipeline.cli.config", "pydantic", "structlog"])
def test_while_a_command_is_loaded(module: str) -> None:
    """Click ends the line on which the terminal shows ^C."""
    assert interrupted_at(module) == (130, "\n")


def test_an_interrupt_that_is_ignored_stays_so() -> None:
    """As in a job that a script has put into the background."""
    code, error = interrupted_at(
        "click", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )

    assert (code, error) == (0, "the settings are fine\n")


def test_no_compiler_of_queries_is_imported_before_that() -> None:
    program = "import sys, pipeline.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    ours = {name for name in done.stdout.split() if name.startswith("pipeline")}
    assert ours == {"pipeline", "pipeline.cli", "pipeline.cli.interrupt"}
