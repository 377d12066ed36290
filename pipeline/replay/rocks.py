"""The state of replays on disk: a `Table` in an embedded RocksDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rocksdict import BlockBasedOptions, Cache, Options, Rdict

from pipeline.errors import StateError
from pipeline.rocks import rows

BLOCK_CACHE_BYTES: Final = 16 * 1_048_576
WRITE_BUFFER_BYTES: Final = 8 * 1_048_576


class RocksTable:
    """A `pipeline.engine.tables.Table` in a folder, which is created if it does not exist.

    Only one process can use the folder at a time. Use the table as a context manager, or call
    `close`.

    Raises:
        StateError: the folder cannot be used. Every method may raise it; the message says what to
            do.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"{folder}: the state folder cannot be made: {error}") from error
        try:
            self._rows = Rdict(str(folder), _options())
        except Exception as error:  # rocksdict raises nothing more specific
            raise StateError(_cannot_open(folder, str(error))) from error

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""
        try:
            value: bytes | None = self._rows.get(key)
        except Exception as error:
            raise self._unusable(error) from error
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key` to `value`."""
        try:
            self._rows[key] = value
        except Exception as error:
            raise self._unwritable(error) from error

    def delete(self, key: bytes) -> None:
        """Remove `key` if it is there."""
        try:
            self._rows.delete(key)
        except Exception as error:
            raise self._unwritable(error) from error

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Return every (key, value), in key order.

        Raises:
            StateError: the folder is damaged.
        """
        return self.items_from(b"")

    def items_from(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Return every (key, value) whose key is at or after `start`, in key order; see `items`."""
        return rows(self._rows, start, self._unusable)

    def _unusable(self, error: Exception) -> StateError:
        return StateError(
            f"{self._folder}: the state cannot be read ({error}): give another folder, or delete "
            "this one to begin with no history"
        )

    def _unwritable(self, error: Exception) -> StateError:
        return StateError(
            f"{self._folder}: the state cannot be written ({error}): make room on its disk, or "
            "give another folder"
        )

    def close(self) -> None:
        """Write everything to disk and release the folder."""
        try:
            self._rows.close()
        except Exception as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _options() -> Options:
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(BLOCK_CACHE_BYTES))
    blocks.set_bloom_filter(10, block_based=False)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_max_open_files(64)
    options.set_keep_log_file_num(2)
    return options


def _cannot_open(folder: Path, cause: str) -> str:
    if "lock" in cause.lower():
        return (
            f"{folder}: another process uses this state folder: wait for it to end, or give "
            f"another folder"
        )
    return (
        f"{folder}: the state folder cannot be opened ({cause}): give another folder, or delete "
        f"this one to begin with no history"
    )
