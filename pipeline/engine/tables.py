"""Keyed state behind one small protocol, and an in-memory implementation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from pipeline.errors import StateError


def unreadable(what: str, error: ValueError) -> StateError:
    """Return the error for stored data that cannot be read; `what` is, say, "a quota row"."""
    return StateError(
        f"{what} cannot be read ({error}): the state is damaged; delete the local state folder, it "
        f"is rebuilt from the changelog"
    )


def of_newer_version(what: str, found: int, known: int) -> StateError:
    """Return the error for stored data whose format this version does not know."""
    return StateError(
        f"{what} has format {found}, this version reads {known}: start a version of firstseen at "
        f"least as new as the one that wrote it"
    )


class Table(Protocol):
    """A map from bytes to bytes.

    A write is visible to the next read. Whether writes are durable is up to the implementation.
    """

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key` to `value`."""

    def delete(self, key: bytes) -> None:
        """Remove `key` if it is there."""

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every (key, value), in an order that depends on the implementation."""

    def items_from(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield every (key, value) whose key is at or after `start`, in key order."""


class MemoryTable:
    """A `Table` in a dictionary: for tests, rule tests and replays that keep no state."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""
        return self._rows.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key` to `value`."""
        self._rows[key] = value

    def delete(self, key: bytes) -> None:
        """Remove `key` if it is there."""
        self._rows.pop(key, None)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every (key, value) in order of first insertion, from a copy of the keys."""
        for key in list(self._rows):
            yield key, self._rows[key]

    def items_from(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield every (key, value) from `start` on in key order, from a copy of the keys."""
        for key in sorted(key for key in self._rows if key >= start):
            yield key, self._rows[key]

    def __len__(self) -> int:
        return len(self._rows)
