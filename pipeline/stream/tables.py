"""Tables: one RocksDB per partition and a changelog topic per table, written through the outbox.

For recovery, standby copies and assignment, a `StateTable` is a Faust table. The stages do not use
its dictionary interface, which costs a quarter of a millisecond per write and works only inside a
stream iteration. Instead they ask for a `PartitionTable`, read and write RocksDB directly, and send
the changelog records themselves.

When source offsets are committed, the offset up to which the changelog is known to be in the local
RocksDB is stored as well. So the next start re-reads at most what was written since the last
commit. A row that was written locally but never acknowledged is then either overwritten by what the
changelog holds, or written again by the replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import rocksdict
from faust import Table
from faust.types import TP

from pipeline.engine.source import check_source
from pipeline.errors import StateError
from pipeline.rocks import rows
from pipeline.stream.outbox import Acknowledgement, Outbox, Outgoing
from pipeline.stream.store import SharedMemoryOptions, Store


class PartitionTable:
    """One partition of a `StateTable`, as the engine sees it (`pipeline.engine.tables.Table`).

    Writes gather in memory, where reads find them, until `send_changes`. Then RocksDB gets them in
    one atomic batch, and the changelog gets one record per key, in the order of the last write to
    each key. The engine's correctness argument for the quota relies on that order.
    """

    def __init__(self, table: StateTable, partition: int) -> None:
        self._table = table
        self._partition = partition
        self._db = table.data.database(partition)
        self._changes: dict[bytes, bytes | None] = {}
        self._ahead: dict[bytes, bytes | None] = {}
        self._sending = asyncio.Lock()

    @property
    def has_changes(self) -> bool:
        """Whether writes wait for `send_changes`, so that the rows from `items` are out of date."""
        return bool(self._changes)

    def get(self, key: bytes) -> bytes | None:
        if key in self._changes:
            return self._changes[key]
        if key in self._ahead:
            return self._ahead[key]
        value: bytes | None = self._read(key)
        return value

    def read_ahead(self, keys: Iterable[bytes]) -> None:
        """Read the rows of keys that will be needed soon in one go, which takes half the time.

        They are kept until they are written, or until other rows are read ahead.

        Raises:
            StateError: RocksDB cannot read them.
        """
        wanted = [key for key in keys if key not in self._changes]
        self._ahead = dict(zip(wanted, self._read(wanted), strict=True))

    def _read(self, key: bytes | list[bytes]) -> Any:
        try:
            return self._db.get(key)
        except Exception as exc:
            raise self._unusable(exc) from exc

    def put(self, key: bytes, value: bytes) -> None:
        self._change(key, value)

    def delete(self, key: bytes) -> None:
        self._change(key, None)

    def _change(self, key: bytes, value: bytes | None) -> None:
        self._ahead.pop(key, None)
        self._changes.pop(key, None)
        self._changes[key] = value

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the rows. Finish before the next await: an open iterator keeps the lock.

        Raises:
            StateError: RocksDB cannot read on.
        """
        return self.items_from(b"")

    def items_from(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the rows from a key on, in key order; see `items`."""
        for key, value in rows(self._db, start, self._unusable):
            if key != Store.offset_key:
                yield key, value

    def _unusable(self, error: Exception) -> StateError:
        return self._table.data.unusable(self._partition, error)

    async def send_changes(self, outbox: Outbox) -> list[asyncio.Future[Any]]:
        """Write the changes to RocksDB and send them to the changelog.

        Calls run one at a time, so the changelog holds the changes in the order in which they were
        written, even if an agent and the sweep write to the same partition.

        Returns:
            Futures that resolve when the changelog is acknowledged.
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
            try:
                self._db.write(batch)
            except Exception as exc:
                raise self._unusable(exc) from exc
            acknowledged = await outbox.send_to(
                self._table.changelog_name,
                self._partition,
                [Outgoing(key, value) for key, value in changes.items()],
                self._table.on_changelog_acknowledged,
            )
            return [acknowledged]


class StateTable(Table):
    """A Faust table that the stages use by partition."""

    def __init__(self, *args: Any, rocks: SharedMemoryOptions, **kwargs: Any) -> None:
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

    def active_partitions(self) -> list[int]:
        """Return the partitions that this worker owns; standby copies do not count."""
        return [
            tp.partition
            for tp in self.app.assignor.assigned_actives()
            if tp.topic == self.changelog_name
        ]

    def partition(self, number: int) -> PartitionTable:
        """Return the table of one assigned partition."""
        table = self._open.get(number)
        if table is None:
            table = self._open[number] = PartitionTable(self, number)
        return table

    async def check_source(self, topic: str, source_ids: Mapping[str, str]) -> None:
        """Return if the partitions that this worker owns belong to this topic.

        Args:
            topic: the topic whose offsets the rows hold.
            source_ids: see `pipeline.stream.context.Context`.

        Raises:
            SourceChangedError: it was created anew since.
        """
        for number in self.active_partitions():
            partition = self.partition(number)
            check_source(partition, topic, source_ids.get(topic, ""))
            await partition.send_changes(self.app.outbox)

    async def on_changelog_event(self, event: Any) -> None:
        """Write a bundle of the changelog to RocksDB, during recovery or in a standby copy."""
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
            self.app.fail(self.data.unusable(message.partition, exc))
        del message.bundle  # Faust keeps the message for a while

    def apply_changelog_batch(self, batch: Any) -> None:
        """Do nothing: `on_changelog_event` has already written every row."""

    def on_changelog_acknowledged(self, acknowledged: Acknowledgement) -> None:
        last = self._acknowledged.get(acknowledged.partition, -1)
        self._acknowledged[acknowledged.partition] = max(last, acknowledged.offset)

    def on_committed(self, offsets: Mapping[TP, int]) -> None:  # noqa: ARG002
        """Store on disk how far the changelog is known to be in RocksDB."""
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
        # Every partition is recovered again after a rebalance, so every handle must be opened
        # again.
        self._open.clear()
        self._acknowledged.clear()
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
