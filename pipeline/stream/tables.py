"""Tables: RocksDB by partition, a changelog topic behind each, written through the outbox.

A `StateTable` is a Faust table where recovery, standby copies and assignment are concerned. The
stages do not use its dictionary face, which costs a quarter of a millisecond a write and works
only inside a stream iteration: they ask for a `PartitionTable`, read and write RocksDB directly
and send the changelog records themselves.

The offset up to which the changelog is known to be in the local RocksDB is stored when source
offsets are committed, so the next start re-reads at most what was written since the last commit;
a row that was written locally but never acknowledged is then overwritten by what the changelog
holds, or written again by the replay.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rocksdict
from faust import Table
from faust.stores import rocksdb
from faust.types import TP
from rocksdict import Rdict

from pipeline.errors import StateError
from pipeline.stream.outbox import Delivery, Outbox, Outgoing


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Memory and files of all RocksDB instances of one worker, in bytes.

    The block cache is shared by every table and partition; each partition has at most two write
    buffers of its own.
    """

    block_cache_bytes: int
    write_buffer_bytes: int
    max_open_files: int = 128


class SharedCacheOptions(rocksdb.RocksDBOptions):
    """RocksDB options with one block cache for the whole process.

    Faust's own give every table and partition a cache of 2 GiB and three buffers of 64 MiB.
    """

    def __init__(self, options: StoreOptions, cache: rocksdict.Cache) -> None:
        super().__init__(use_rocksdict=True)
        self._options = options
        self._cache = cache

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
        options.set_write_buffer_size(self._options.write_buffer_bytes)
        options.set_max_write_buffer_number(2)
        options.set_max_open_files(self._options.max_open_files)
        options.set_keep_log_file_num(2)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        return options


_NO_DAMAGE = ("lock", "no space left", "quota exceeded", "too many open files")
"""In what RocksDB says when the folder is all right, but somebody has it, or there is no room."""


def is_damaged(error: Exception) -> bool:
    """Whether an error of RocksDB at opening means that what is in the folder cannot be used.

    A full disk does not: to set a good state aside there would leave even less room, and make the
    next start recover all of it from the changelog.
    """
    text = str(error).lower()
    return "corruption" in text or not any(cause in text for cause in _NO_DAMAGE)


class Store(rocksdb.Store):
    """Faust's RocksDB store with our options, which sets a damaged folder aside."""

    def __init__(self, *args: Any, rocks: SharedCacheOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rocksdb_options = rocks

    def _open_for_partition(self, partition: int) -> Rdict:
        path = self.partition_path(partition)
        try:
            return self.rocksdb_options.open(path)
        except Exception as exc:
            if not is_damaged(exc):
                raise
            if not path.exists():
                raise StateError(f"cannot open the state at {path}: {exc}") from exc
            aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
            path.rename(aside)
            self.log.exception(
                "state at %s is damaged: set aside as %s, rebuilding from the changelog",
                path,
                aside,
            )
            self.app.on_damaged_state(self.table_name)
            return self.rocksdb_options.open(path)

    def database(self, partition: int) -> Rdict:
        """Return the open RocksDB of a partition."""
        return self._db_for_partition(partition)

    def approximate_size(self) -> int:
        """Return about how many rows the open partitions hold (RocksDB's estimate)."""
        total = 0
        for db in self._dbs.values():
            total += db.property_int_value("rocksdb.estimate-num-keys") or 0
        return total

    async def stop(self) -> None:
        """Close every database; closing is dropping the last reference."""
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


class PartitionTable:
    """One partition of a `StateTable`, as the engine sees it (`pipeline.engine.tables.Table`).

    Writes gather in memory, where reads find them, until `send_changes`: then RocksDB gets them in
    one atomic batch and the changelog gets one record a key, in the order of the last write to each
    (the engine's argument for the quota rests on that order).
    """

    def __init__(self, table: StateTable, partition: int) -> None:
        self._table = table
        self._partition = partition
        self._db = table.data.database(partition)
        self._changes: dict[bytes, bytes | None] = {}
        self._sending = asyncio.Lock()

    @property
    def has_changes(self) -> bool:
        """Whether writes wait for `send_changes`: the rows that `items` tells are old then."""
        return bool(self._changes)

    def get(self, key: bytes) -> bytes | None:
        if key in self._changes:
            return self._changes[key]
        value: bytes | None = self._db.get(key)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        self._changes.pop(key, None)
        self._changes[key] = value

    def delete(self, key: bytes) -> None:
        self._changes.pop(key, None)
        self._changes[key] = None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the rows; finish before the next await, an open iterator keeps the lock."""
        for key, value in self._db.items():
            if key != Store.offset_key:
                yield key, value

    def items_from(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the rows from a key on, in order of the keys; see `items`."""
        for key, value in self._db.items(from_key=start):
            if key != Store.offset_key:
                yield key, value

    async def send_changes(self, outbox: Outbox) -> list[asyncio.Future[Any]]:
        """Write what changed to RocksDB and send it to the changelog.

        One call at a time: the changelog holds the changes in the order of writing, also where an
        agent and the sweep write to the same partition.

        Returns:
            Futures that end when the changelog is acknowledged.
        """
        async with self._sending:
            changes, self._changes = self._changes, {}
            if not changes:
                return []
            batch = rocksdict.WriteBatch(raw_mode=True)
            for key, value in changes.items():
                if value is None:
                    batch.delete(key)
                else:
                    batch.put(key, value)
            self._db.write(batch)
            return await outbox.send_to(
                self._table.changelog_name,
                self._partition,
                [Outgoing(key, value) for key, value in changes.items()],
                self._table.on_changelog_acknowledged,
            )


class StateTable(Table):
    """A Faust table that the stages use by partition."""

    def __init__(self, *args: Any, rocks: SharedCacheOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rocks = rocks
        self._acknowledged: dict[int, int] = {}
        self._open: dict[int, PartitionTable] = {}

    def _new_store(self) -> Store:
        return Store(
            "rocksdb://",
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            value_type=self.value_type,
            loop=self.loop,
            rocks=self._rocks,
        )

    @property
    def changelog_name(self) -> str:
        return str(self.changelog_topic.get_topic_name())

    def partition(self, number: int) -> PartitionTable:
        """Return the table of one assigned partition."""
        table = self._open.get(number)
        if table is None:
            table = self._open[number] = PartitionTable(self, number)
        return table

    async def on_changelog_event(self, event: Any) -> None:
        """Write a bundle of the changelog, while the table is recovered or copied."""
        message = event.message
        try:
            batch = rocksdict.WriteBatch(raw_mode=True)
            for row in message.bundle.items:
                if row.value is None:
                    batch.delete(row.key)
                else:
                    batch.put(row.key, row.value)
            self.data.database(message.partition).write(batch)
            self.data.set_persisted_offset(message.tp, message.offset)
        except Exception as exc:  # noqa: BLE001 - Faust would go on without these rows
            self.app.fail(StateError(f"cannot write the state of {self.name}: {exc}"))
        del message.bundle  # Faust keeps the message for a while

    def apply_changelog_batch(self, batch: Any) -> None:
        """Do nothing: `on_changelog_event` has written every row."""

    def on_changelog_acknowledged(self, delivery: Delivery) -> None:
        last = self._acknowledged.get(delivery.partition, -1)
        self._acknowledged[delivery.partition] = max(last, delivery.offset)

    def on_committed(self, offsets: Mapping[TP, int]) -> None:  # noqa: ARG002
        """Remember on disk how far the changelog is known to be in RocksDB."""
        acknowledged, self._acknowledged = self._acknowledged, {}
        for partition, offset in acknowledged.items():
            if partition in self._open:
                self.data.set_persisted_offset(TP(self.changelog_name, partition), offset)

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],
        newly_assigned: set[TP],
        generation_id: int = 0,
    ) -> None:
        # Every partition is recovered anew after a rebalance, so every handle is opened anew.
        self._open.clear()
        self._acknowledged.clear()
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
