"""Which error at opening a table means that its folder is of no use."""

import pytest

from pipeline.stream.store import is_damaged

OF_ROCKSDB = {
    "IO error: lock hold by current process, acquire time 1 acquiring thread 2: x/LOCK": False,
    "IO error: No space left on device: While appending to file: x/MANIFEST-000017": False,
    "No space left on device (os error 28)": False,
    "IO error: While open a file for random read: x/000013.sst: Too many open files": False,
    "IO error: Disk quota exceeded: While appending to file: x/000018.log": False,
    "Corruption: block checksum mismatch: stored = 1, computed = 2 in x/000022.sst": True,
    "Corruption: bad record in x/block-1.sst": True,
    "IO error: No such file or directory: While opening a file for reading: x/000009.sst": True,
}


@pytest.mark.parametrize(("text", "damaged"), OF_ROCKSDB.items(), ids=lambda value: str(value)[:40])
def test_a_folder_is_set_aside_for_damage_alone(text: str, damaged: bool):
    assert is_damaged(Exception(text)) is damaged
