"""A state folder belongs to the first workers that use it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError, StateOwnerError
from pipeline.stream.state_owner import OWNER_FILE, Owner, claim

OURS = Owner("c1", "soc")


def test_whoever_comes_first_may_come_again(tmp_path: Path):
    claim(tmp_path, OURS)
    claim(tmp_path, OURS)

    assert [file.name for file in tmp_path.iterdir()] == [OWNER_FILE]


@pytest.mark.parametrize("other", [Owner("c2", "soc"), Owner("c1", "lab")])
def test_others_are_refused_and_change_nothing(tmp_path: Path, other: Owner):
    claim(tmp_path, OURS)

    with pytest.raises(
        StateOwnerError, match="group soc on the cluster c1, .* set state.directory"
    ):
        claim(tmp_path, other)

    claim(tmp_path, OURS)


@pytest.mark.parametrize("content", [b"", b'{"cluster": "c', b"[]"])
def test_a_note_that_cannot_be_read_is_written_anew(tmp_path: Path, content: bytes):
    (tmp_path / OWNER_FILE).write_bytes(content)

    claim(tmp_path, OURS)

    with pytest.raises(StateOwnerError):
        claim(tmp_path, Owner("c2", "soc"))


def test_a_note_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / OWNER_FILE).mkdir()

    with pytest.raises(ConfigError, match=f"cannot write to the state folder {tmp_path}"):
        claim(tmp_path, OURS)
