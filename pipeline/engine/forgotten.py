"""Histories that were forgotten as a whole, while their rows are still in the table.

Forgetting a history takes one small write: a *mark*, the offset of the record that asked for it. A
row last written before that offset counts as not being there. The rows themselves leave later, by
slices of `pipeline.engine.sweep`, and then the mark does.

A crash harms nothing. The mark is written to the changelog after the rows of all earlier
observations, so where the mark has survived those rows have too, and a replay of an earlier
observation still finds its verdict in its row. The rows leave only once the mark's own record is
committed: nothing before it is replayed then.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pipeline.engine.identity import HISTORY_BYTES
from pipeline.engine.tables import Table, unreadable

MARKS_KEY: Final = b"forgotten"
"""Where a table keeps the marks. No first seen key has this length."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[bytes, int])


def read_marks(value: bytes | None) -> dict[bytes, int]:
    """Return offset by history (its 8 bytes), as kept under `MARKS_KEY`.

    Raises:
        StateError: the value cannot be read.
    """
    if value is None:
        return {}
    try:
        return _decoder.decode(value)
    except ValueError as error:
        raise unreadable("the marks of forgotten histories", error) from error


class Forgotten:
    """The marks of one table.

    Raises:
        StateError: they cannot be read.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._marks = read_marks(table.get(MARKS_KEY))

    def before(self, key: bytes) -> int:
        """Return the offset before which the rows of a key's history count as not there."""
        return self._marks.get(key[:HISTORY_BYTES], 0) if self._marks else 0

    def histories(self) -> set[bytes]:
        """Return the histories of which rows count as not there."""
        return set(self._marks)

    def mark(self, history: bytes, offset: int) -> None:
        """Note that a history is forgotten up to an offset."""
        self._marks[history] = max(offset, self._marks.get(history, 0))
        self._write()

    def due(self, committed: int) -> tuple[bytes, int] | None:
        """Return a (history, offset) whose rows may leave now, if there is one."""
        for history, offset in self._marks.items():
            if offset < committed:
                return history, offset
        return None

    def cleared(self, history: bytes, offset: int) -> None:
        """Note that the rows before this offset have left."""
        if self._marks.get(history) == offset:
            del self._marks[history]
            self._write()

    def _write(self) -> None:
        if self._marks:
            self._table.put(MARKS_KEY, _encoder.encode(self._marks))
        else:
            self._table.delete(MARKS_KEY)
