"""Which error at opening a table means that its folder is of no use."""

import time
from pathlib import Path

import pytest

from pipeline.stream.store import SharedMemoryOptions, StoreOptions, is_damaged

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
