"""The state folder: made if it is missing, and used by one worker at a time."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, StateInUseError
from pipeline.stream.state_folder import state_folder

HOLD = """
import sys
from pathlib import Path
from pipeline.stream.state_folder import state_folder

with state_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Return a process that holds the folder until it ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_that_another_process_holds_is_refused(tmp_path: Path) -> None:
    with (
        hold(tmp_path / "state") as other,
        pytest.raises(StateInUseError, match=f"process {other.pid}.*set state.directory") as raised,
        state_folder(tmp_path / "state"),
    ):
        pass

    assert (raised.value.code, raised.value.exit_code) == ("state_in_use", 3)


def test_it_is_free_again_when_the_process_is_killed(tmp_path: Path) -> None:
    with hold(tmp_path) as other:
        other.kill()
        other.wait()
        with state_folder(tmp_path):
            assert (tmp_path / "worker.lock").read_text() == f"{os.getpid()}\n"


def test_it_is_free_again_after_its_use(tmp_path: Path) -> None:
    for _ in range(2):
        with state_folder(tmp_path):
            pass


def test_a_folder_that_cannot_be_written_to_is_told() -> None:
    with (
        pytest.raises(ConfigError, match="cannot write to the state folder /proc/self"),
        state_folder(Path("/proc/self")),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(ConfigError, match="cannot make the state folder"),
        state_folder(tmp_path / "file" / "state"),
    ):
        pass


def test_a_lock_file_of_another_user_is_told(tmp_path: Path) -> None:
    (tmp_path / "worker.lock").mkdir()  # root may open any file, but no folder

    with (
        pytest.raises(ConfigError, match="cannot write to the state folder"),
        state_folder(tmp_path),
    ):
        pass


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with (
        pytest.raises(ConfigError, match="cannot lock .*: No locks available; .* local disk"),
        state_folder(tmp_path),
    ):
        pass
