"""The RocksDB behind a table: one folder per partition, bounded memory, and handling of damage."""

from __future__ import annotations

import gc
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rocksdict
from faust.stores import rocksdb
from faust.types import TP
from rocksdict import Rdict

from pipeline.errors import StateError


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Memory (in bytes) and open files for RocksDB in one worker.

    All tables and partitions share the block cache and the write buffers. The limit on open files
    applies to each database.
    """

    block_cache_bytes: int
    write_buffer_bytes: int
    max_open_files: int = 128


_LARGEST_WRITE_BUFFER_BYTES = 16 << 20


class SharedMemoryOptions(rocksdb.RocksDBOptions):
    """RocksDB options with one block cache and one write buffer limit for the whole process.

    Faust's own options give every table and partition a cache of 2 GiB and three buffers of 64 MiB.
    """

    def __init__(self, options: StoreOptions) -> None:
        super().__init__(use_rocksdict=True)
        self._options = options
        self._cache = rocksdict.Cache(options.block_cache_bytes)
        # When the room is used up, a buffer is flushed; writers do not wait for it.
        self._write_buffers = rocksdict.WriteBufferManager(
            options.write_buffer_bytes, allow_stall=False
        )

    def open(self, path: Path, *, read_only: bool = False) -> Rdict:  # noqa: ARG002
        return Rdict(str(path), options=self.as_options())

    def as_options(self) -> rocksdict.Options:
        blocks = rocksdict.BlockBasedOptions()
        blocks.set_block_cache(self._cache)
        blocks.set_bloom_filter(10, False)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_manager(self._write_buffers)
        options.set_write_buffer_size(
            min(self._options.write_buffer_bytes, _LARGEST_WRITE_BUFFER_BYTES)
        )
        options.set_max_write_buffer_number(2)
        options.set_max_open_files(self._options.max_open_files)
        options.set_keep_log_file_num(2)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        return options


_NO_DAMAGE = (
    "lock",
    "no space left",
    "quota exceeded",
    "too many open files",
    "permission denied",
    "operation not permitted",
    "read-only file system",
    "input/output error",
)
"""Phrases in RocksDB's errors for a folder that is intact, but that this process cannot use now."""


def is_damaged(error: Exception) -> bool:
    """Whether an error on opening RocksDB means that the content of the folder is unusable.

    A full disk does not mean that, nor does a folder of another user. Setting a good state aside
    would only make the next start recover all of it from the changelog.
    """
    text = str(error).lower()
    return "corruption" in text or not any(cause in text for cause in _NO_DAMAGE)


def _check_link(path: Path) -> None:
    """Raise StateError if a link to nothing stands in place of a folder."""
    if path.is_symlink() and not path.exists():
        raise StateError(
            f"cannot open the state at {path}: it is a link to {path.readlink()}, which is not "
            f"there. Mount the volume that holds it; if it is gone for good, remove the link, and "
            f"the partition is rebuilt from the changelog"
        )


class Store(rocksdb.Store):
    """Faust's RocksDB store with our options, which sets a damaged folder aside."""

    def __init__(self, *args: Any, rocks: SharedMemoryOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rocksdb_options = rocks

    def _open_for_partition(self, partition: int) -> Rdict:
        path = self.partition_path(partition)
        _check_link(path)
        note = self._note_of_damage(partition)
        try:
            return self._open_unless_noted(path, note)
        except Exception as exc:
            if not is_damaged(exc):
                raise StateError(
                    f"cannot open the state at {path}: {exc}. Check who owns the folder, whether "
                    f"this user may write there, whether there is room, whether this process may "
                    f"open more files (ulimit -n), and that nobody else has it"
                ) from exc
            if not path.exists():
                raise StateError(f"cannot open the state at {path}: {exc}") from exc
            aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
            for older in path.parent.glob(f"{path.name}.damaged-*"):
                shutil.rmtree(older, ignore_errors=True)  # one is kept, for inspection
            path.rename(aside)
            note.unlink(missing_ok=True)
            self.log.exception(
                "state at %s is damaged: set aside as %s, rebuilding from the changelog",
                path,
                aside,
            )
            self.app.on_damaged_state(self.table_name)
            return self.rocksdb_options.open(path)

    def _open_unless_noted(self, path: Path, note: Path) -> Rdict:
        if not path.exists():
            note.unlink(missing_ok=True)
        elif note.exists():
            raise StateError(note.read_text(encoding="utf-8"))
        db = self.rocksdb_options.open(path)
        try:
            db.get(self.offset_key)  # the first thing that Faust will ask for
        except Exception:
            db.close()
            raise
        return db

    def _note_of_damage(self, partition: int) -> Path:
        path = self.partition_path(partition)
        return path.with_name(f"{path.name}.damage")

    def unusable(self, partition: int, error: Exception) -> StateError:
        """Return the error to stop with after RocksDB raised in an open database.

        RocksDB checks a block only when it reads it. So a folder that opened without error can turn
        out to be damaged hours later, and would do so again after each start. Therefore damage is
        noted in a file beside the folder, and the next start sets that folder aside.
        """
        path = self.partition_path(partition)
        if "corruption" not in str(error).lower():
            return StateError(f"the state at {path} cannot be used: {error}")
        with suppress(OSError):  # no room: the next start meets the damage once more
            self._note_of_damage(partition).write_text(str(error), encoding="utf-8")
        return StateError(
            f"the state at {path} is damaged: {error}. Start again: it is set aside then, and "
            "rebuilt from the changelog"
        )

    def database(self, partition: int) -> Rdict:
        """Return the open RocksDB of a partition."""
        return self._db_for_partition(partition)

    def approximate_size(self) -> int:
        """Return RocksDB's estimate of the number of rows in the open partitions."""
        total = 0
        for db in self._dbs.values():
            total += db.property_int_value("rocksdb.estimate-num-keys") or 0
        return total

    async def stop(self) -> None:
        """Close every database; a database is closed only when its last reference is gone."""
        for db in self._dbs.values():
            db.close()
        self._dbs.clear()
        gc.collect()

    def revoke_partitions(self, table: Any, tps: set[TP]) -> None:
        for tp in tps:
            if tp.topic in table.changelog_topic.topics:
                db = self._dbs.pop(tp.partition, None)
                if db is not None:
                    db.close()
