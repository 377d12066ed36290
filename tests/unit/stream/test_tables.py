"""A partition of a table finds what was written last, wherever that is by now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rocksdict

from pipeline.errors import StateError
from pipeline.stream.tables import PartitionTable


class CountingDatabase:
    """RocksDB that counts how often it is read."""

    def __init__(self, directory: Path) -> None:
        self.db = rocksdict.Rdict(str(directory), rocksdict.Options(raw_mode=True))
        self.reads = 0

    def get(self, key: Any) -> Any:
        self.reads += 1
        return self.db.get(key)

    def write(self, batch: Any) -> None:
        self.db.write(batch)


class Outbox:
    async def send_to(self, *_: Any) -> str:
        return "sent"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[CountingDatabase]:
    database = CountingDatabase(tmp_path)
    for number in range(4):
        database.db[b"%d" % number] = b"old"
    yield database
    database.db.close()


@pytest.fixture
def table(database: CountingDatabase) -> PartitionTable:
    data = SimpleNamespace(
        database=lambda _: database, unusable=lambda _, error: StateError(str(error))
    )
    state: Any = SimpleNamespace(
        data=data, changelog_name="changelog", on_changelog_acknowledged=None
    )
    return PartitionTable(state, 0)


def written(table: PartitionTable) -> None:
    outbox: Any = Outbox()
    asyncio.run(table.send_changes(outbox))


def test_rows_are_read_ahead_at_once(table: PartitionTable, database: CountingDatabase):
    table.read_ahead([b"0", b"1", b"missing"])

    assert [table.get(key) for key in (b"0", b"1", b"missing")] == [b"old", b"old", None]
    assert database.reads == 1
    assert table.get(b"2") == b"old"
    assert database.reads == 2


@pytest.mark.parametrize("written_meanwhile", [False, True])
def test_what_is_written_after_that_is_found(table: PartitionTable, written_meanwhile: bool):
    table.read_ahead([b"0", b"1", b"missing"])
    table.put(b"0", b"new")
    table.delete(b"1")
    table.put(b"missing", b"new")
    if written_meanwhile:
        written(table)

    assert [table.get(key) for key in (b"0", b"1", b"missing")] == [b"new", None, b"new"]


def test_what_was_written_before_that_is_found_also_once_it_has_left(table: PartitionTable):
    """The sweep may have removed a row, and send that only now."""
    table.delete(b"0")
    table.put(b"1", b"new")
    table.read_ahead([b"0", b"1"])
    assert [table.get(key) for key in (b"0", b"1")] == [None, b"new"]

    written(table)

    assert [table.get(key) for key in (b"0", b"1")] == [None, b"new"]


def test_rows_that_cannot_be_read_are_an_error(
    table: PartitionTable, database: CountingDatabase, monkeypatch: pytest.MonkeyPatch
):
    def damaged(_: Any) -> None:
        raise RuntimeError("Corruption: block checksum mismatch")

    monkeypatch.setattr(database, "get", damaged)

    with pytest.raises(StateError, match="Corruption"):
        table.read_ahead([b"0"])
