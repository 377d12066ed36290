"""Environments apart from the project's own, and whatever else is installed for a measurement.

They are made when they are first needed, and made anew when what they are to hold has changed.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.benchmarks.measurement import UnavailableError

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
"""Where the environments are, as `.venv-NAME`."""

_INSTALL_SECONDS = 300.0


def environment(folder: Path, contents: str, make: Callable[[], None]) -> str:
    """Return the interpreter of an environment; `make` it unless it holds the contents already.

    Args:
        folder: where it is.
        contents: what it is to hold, as text; a stamp in the folder says what it holds.
        make: makes it from nothing, or raises.
    """
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if not python.exists() or not stamp.exists() or stamp.read_text() != contents:
        # One that is left half made must not pass for what it was before.
        stamp.unlink(missing_ok=True)
        make()
        stamp.write_text(contents)
    return str(python)


def install(
    command: Sequence[str],
    *,
    variables: Mapping[str, str] | None = None,
    seconds: float = _INSTALL_SECONDS,
) -> None:
    """Run a command that installs something, in the project's folder, with more variables.

    Raises:
        UnavailableError: it failed, or took longer than `seconds`.
    """
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as exc:
            raise UnavailableError(f"{' '.join(command)} took too long") from exc
        finally:
            if process.poll() is None:
                # With all it has started: a compiler that goes on disturbs what is measured.
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0:
        raise UnavailableError(f"{' '.join(command)} failed: {output[-1500:].strip()}")
