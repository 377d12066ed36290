"""The folder of the tables: made and checked at the start, and used by one worker at a time."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pipeline.errors import ConfigError, StateInUseError

_LOCK_NAME = "worker.lock"


@contextmanager
def state_folder(directory: Path) -> Iterator[None]:
    """Make the state folder if it is missing, and hold it for this process.

    RocksDB locks only the folder of each partition. Two workers with one folder would start without
    complaint, and get in each other's way when a partition moves between them. The kernel gives up
    this lock when the process ends, however it ends.

    Raises:
        ConfigError: this process cannot make, write or lock it.
        StateInUseError: another worker has it.
    """
    _make(directory)
    with _opened(directory / _LOCK_NAME) as file:
        _lock(file, directory)
        yield


def _make(directory: Path) -> None:
    # Faust creates only the last folder of a path, and the default is nested.
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"cannot make the state folder {directory}: {exc.strerror}; set state.directory to a "
            f"folder that this user may write to"
        ) from exc
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as exc:
        raise not_writable(directory, exc) from exc


def _opened(path: Path) -> TextIO:
    try:
        return path.open("a+", encoding="utf-8")
    except OSError as exc:
        raise not_writable(path.parent, exc) from exc


def not_writable(directory: Path, error: OSError) -> ConfigError:
    """Return the error to raise if a state folder cannot be written to."""
    return ConfigError(
        f"cannot write to the state folder {directory}: {error.strerror}; have it belong to this "
        f"user (uid {os.getuid()}), or set state.directory to another folder"
    )


def _lock(file: TextIO, directory: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        file.seek(0)
        raise StateInUseError(
            f"another worker uses the state folder {directory} (process {file.read(20).strip()}): "
            f"set state.directory to a folder of its own for each worker"
        ) from exc
    except OSError as exc:
        raise ConfigError(
            f"cannot lock the state folder {directory}: {exc.strerror}; set state.directory to a "
            f"folder on a local disk"
        ) from exc
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
