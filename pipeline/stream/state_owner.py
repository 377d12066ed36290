"""Whose tables a state folder holds: those of one consumer group on one cluster.

A table on disk is a copy of a changelog topic up to an offset, and nothing in it says of which
topic. If workers of another group or cluster opened it, they would take its rows for their own:
terms that they have never seen would be known, and those that they have seen before that offset,
unknown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from pipeline.errors import StateOwnerError
from pipeline.stream.state_folder import not_writable

OWNER_FILE: Final = "owner.json"


class Owner(msgspec.Struct, frozen=True):
    """The workers that a folder belongs to.

    Attributes:
        cluster: the id that the brokers give their cluster.
        group: the consumer group.
    """

    cluster: str
    group: str


def claim(directory: Path, owner: Owner) -> None:
    """Note whose folder this is, unless that is noted already.

    A folder without a note, or with one that cannot be read, becomes the owner's: an older version
    wrote it, or a disk was full.

    Raises:
        StateOwnerError: the folder belongs to others.
        ConfigError: the note cannot be written.
    """
    path = directory / OWNER_FILE
    found = _read(path)
    if found == owner:
        return
    if found is not None:
        raise StateOwnerError(
            f"the state in {directory} belongs to the group {found.group} on the cluster "
            f"{found.cluster}, but this worker to the group {owner.group} on the cluster "
            f"{owner.cluster}: set state.directory to a folder of its own, or move this one away; "
            f"the tables are then rebuilt from their changelog topics"
        )
    new = path.with_suffix(".new")
    try:
        new.write_bytes(msgspec.json.encode(owner))
        new.replace(path)
    except OSError as exc:
        raise not_writable(directory, exc) from exc


def _read(path: Path) -> Owner | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Owner)
    except (OSError, msgspec.DecodeError):
        return None
