from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.engine.tables import MemoryTable, Table
from pipeline.errors import StateError
from pipeline.replay.rocks import RocksTable
from tests.damage import spoil_blocks


@pytest.fixture(params=["memory", "rocks"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Table]:
    if request.param == "memory":
        yield MemoryTable()
        return
    with RocksTable(tmp_path / "state") as rocks:
        yield rocks


def test_a_table_gives_back_what_was_put(table: Table) -> None:
    table.put(b"b", b"1")
    table.put(b"a", b"\x00\xff")
    table.put(b"b", b"2")

    assert (b"2", b"\x00\xff", None) == (table.get(b"b"), table.get(b"a"), table.get(b"c"))
    assert [(b"a", b"\x00\xff"), (b"b", b"2")] == sorted(table.items())


def test_a_table_forgets_what_was_deleted(table: Table) -> None:
    table.put(b"a", b"1")
    table.delete(b"a")
    table.delete(b"never there")

    assert table.get(b"a") is None
    assert [] == list(table.items())


def test_a_folder_is_made_and_its_rows_outlive_the_table(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    with RocksTable(folder) as table:
        table.put(b"a", b"1")

    with RocksTable(folder) as table:
        assert table.get(b"a") == b"1"


def test_a_folder_in_use_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with RocksTable(tmp_path), pytest.raises(StateError, match="another process"):
        RocksTable(tmp_path)


def test_a_path_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")

    with pytest.raises(StateError, match="cannot be made"):
        RocksTable(file)


def test_a_damaged_folder_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with RocksTable(tmp_path) as table:
        table.put(b"a", b"1")
    (tmp_path / "CURRENT").write_text("nonsense")

    with pytest.raises(StateError, match="delete this one"):
        RocksTable(tmp_path)


def test_a_full_disk_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    table = RocksTable(tmp_path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
        with pytest.raises(StateError, match="make room"):
            table.put(b"a", b"x" * 20_000)
        with pytest.raises(StateError, match="make room"):
            table.delete(b"a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
        with suppress(StateError):  # RocksDB writes nothing more after an error
            table.close()


def test_damage_that_opening_does_not_meet_is_an_error_and_not_an_early_end(tmp_path: Path) -> None:
    with RocksTable(tmp_path) as table:
        for number in range(1000):
            table.put(b"%04d" % number, sha256(b"%d" % number).digest())
    spoil_blocks(tmp_path)

    with RocksTable(tmp_path) as table:
        with pytest.raises(StateError, match="delete this one"):
            list(table.items())
        with pytest.raises(StateError, match="delete this one"):
            [table.get(b"%04d" % number) for number in range(1000)]
