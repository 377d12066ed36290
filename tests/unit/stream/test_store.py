"""Which error at opening a table means that its folder is of no use."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import StateError
from pipeline.stream.store import SharedMemoryOptions, Store, StoreOptions, is_damaged

OF_ROCKSDB = {
    "IO error: lock hold by current process, acquire time 1 acquiring thread 2: x/LOCK": False,
    "IO error: No space left on device: While appending to file: x/MANIFEST-000017": False,
    "No space left on device (os error 28)": False,
    "IO error: While open a file for random read: x/000013.sst: Too many open files": False,
    "IO error: Disk quota exceeded: While appending to file: x/000018.log": False,
    "IO error: Permission denied: While open a file for appending: x/LOG": False,
    "IO error: Operation not permitted: While mkdir: x": False,
    "IO error: Read-only file system: While mkdir if missing: x": False,
    "IO error: Input/output error: While pread: x/000022.sst": False,
    "Corruption: block checksum mismatch: stored = 1, computed = 2 in x/000022.sst": True,
    "Corruption: bad record in x/block-1.sst": True,
    "IO error: No such file or directory: While opening a file for reading: x/000009.sst": True,
}


@pytest.mark.parametrize(("text", "damaged"), OF_ROCKSDB.items(), ids=lambda value: str(value)[:40])
def test_a_folder_is_set_aside_for_damage_alone(text: str, damaged: bool):
    assert is_damaged(Exception(text)) is damaged


def store_of(folder: Path) -> tuple[Store, list[str]]:
    """A store of one partition in a folder, and what is told of damage."""
    damaged: list[str] = []
    store = Store.__new__(Store)
    store.rocksdb_options = SharedMemoryOptions(StoreOptions(4 << 20, 4 << 20))
    store.table_name = "table"
    store.app = SimpleNamespace(on_damaged_state=damaged.append)
    store.log = SimpleNamespace(exception=lambda *_: None)
    store.partition_path = lambda number: folder / f"{number}.db"  # type: ignore[method-assign]
    return store, damaged


def test_state_that_cannot_be_opened_now_stays_where_it_is(tmp_path: Path) -> None:
    store, damaged = store_of(tmp_path)
    holder = store._open_for_partition(0)
    try:
        with pytest.raises(StateError, match=r"0\.db.*lock.*Check who owns the folder.*ulimit -n"):
            store._open_for_partition(0)
    finally:
        holder.close()

    assert (damaged, [path.name for path in tmp_path.iterdir()]) == ([], ["0.db"])


def test_a_link_to_nowhere_in_place_of_a_folder_is_said_with_its_target(tmp_path: Path) -> None:
    store, damaged = store_of(tmp_path)
    (tmp_path / "0.db").symlink_to(tmp_path / "unmounted")

    with pytest.raises(StateError, match=r"0\.db.*link to .*unmounted, which is not there.*Mount"):
        store._open_for_partition(0)

    assert (damaged, (tmp_path / "0.db").is_symlink()) == ([], True)


def test_one_damaged_folder_of_a_partition_is_kept(tmp_path: Path) -> None:
    store, damaged = store_of(tmp_path)
    for n in range(2):
        store._open_for_partition(0).close()
        (tmp_path / "0.db" / "CURRENT").write_text(f"nonsense {n}")
    (tmp_path / "1.db.damaged-5").mkdir()
    store._open_for_partition(0).close()
    (tmp_path / "0.db" / "CURRENT").write_text("nonsense again")
    store._open_for_partition(0).close()

    aside = sorted(path.name for path in tmp_path.glob("*.damaged-*"))
    assert damaged == ["table"] * len(damaged)
    assert [name.split(".damaged")[0] for name in aside] == ["0.db", "1.db"]
    (kept,) = tmp_path.glob("0.db.damaged-*")
    assert (kept / "CURRENT").read_text() == "nonsense again"


def test_all_partitions_share_the_room_for_write_buffers(tmp_path: Path):
    room = 4 << 20
    rocks = SharedMemoryOptions(StoreOptions(block_cache_bytes=4 << 20, write_buffer_bytes=room))
    databases = [rocks.open(tmp_path / str(number)) for number in range(8)]

    def held_bytes() -> int:
        return sum(
            database.property_int_value("rocksdb.cur-size-all-mem-tables") or 0
            for database in databases
        )

    for number in range(20_000):
        databases[number % 8][str(number).encode()] = b"x" * 1_000
    # Alone, each would keep the 2.5 MB it was given. RocksDB looks at the room with each write, and
    # writes out in a thread of its own: on a busy machine that is behind when the last one comes.
    deadline = time.monotonic() + 60
    while held_bytes() > 2 * room and time.monotonic() < deadline:
        for database in databases:
            database[b"more"] = b"x"
        time.sleep(0.05)
    assert held_bytes() <= 2 * room
