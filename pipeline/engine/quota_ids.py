"""The id rows of the quota's table: the decision on each alert id, kept for a limited time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from struct import Struct
from typing import Final

from pipeline.engine.quota_rows import IdRow, decode_id, encode_row
from pipeline.engine.tables import Table

ID: Final = b"i"
"""The first byte of an id row's key; the alert id follows."""

MAX_IDS: Final = 250_000
"""The maximum number of id rows in a partition; each takes about 100 bytes of memory."""
DELETIONS: Final = 2
"""The maximum number of expired id rows deleted with each candidate. A candidate usually adds one,
so the table shrinks faster than it grows."""
BEFORE_ALL: Final = -1
"""An offset before all others."""

_AGE: Final = Struct("qq")


def id_key(alert_id: str) -> bytes:
    """Return the key of an alert's id row."""
    return ID + alert_id.encode()


class AlertIds:
    """The id rows of one partition; their keys are also kept in memory, in order of age.

    Args:
        table: the partition's state.
        dedupe_ms: how long an alert id is remembered.
        max_ids: how many alert ids are remembered; the latest are kept.
    """

    def __init__(self, table: Table, *, dedupe_ms: int, max_ids: int) -> None:
        self._table = table
        self._dedupe_ms = dedupe_ms
        self._max_ids = max_ids
        self._by_age: deque[bytes] = deque()

    def get(self, alert_id: str) -> IdRow | None:
        """Return the decision on an alert id, if it is remembered.

        Raises:
            StateError: the row cannot be read.
        """
        value = self._table.get(id_key(alert_id))
        return None if value is None else decode_id(value)

    def put(self, alert_id: str, row: IdRow) -> None:
        """Store the decision on an alert id."""
        key = id_key(alert_id)
        self._table.put(key, encode_row(row))
        self._by_age.append(_pack_age(row.decided_ms, row.offset, key))

    def recover(self, rows: Iterable[tuple[bytes, IdRow]]) -> None:
        """Load the keys of the rows that the table holds, given as (key, row)."""
        ages = [_pack_age(row.decided_ms, row.offset, key) for key, row in rows]
        self._by_age = deque(sorted(ages, key=_unpack_age))

    def written_since(self, offset: int) -> list[tuple[int, bytes, bytes]]:
        """Return (offset, key, value) of the rows written at or after an offset, in order.

        Raises:
            StateError: a row cannot be read.
        """
        written = []
        for _, written_at, key in map(_unpack_age, self._by_age):
            value = self._table.get(key) if written_at >= offset else None
            if value is not None:
                # A summary is written before the candidate that raised it.
                is_candidate = decode_id(value).value is None
                written.append((written_at, is_candidate, key, value))
        return [(written_at, key, value) for written_at, _, key, value in sorted(written)]

    def delete_expired(self, now_ms: int, committed: int) -> None:
        """Delete up to `DELETIONS` rows that neither duplicates nor replays need any more."""
        for _ in range(DELETIONS):
            if not self._by_age:
                return
            decided_ms, offset, key = _unpack_age(self._by_age[0])
            is_young = decided_ms + self._dedupe_ms > now_ms and len(self._by_age) <= self._max_ids
            if is_young or offset >= committed:
                return
            self._by_age.popleft()
            self._table.delete(key)


def _pack_age(decided_ms: int, offset: int, key: bytes) -> bytes:
    """Pack the key of an id row with its age: as a tuple they would take 250 bytes."""
    return _AGE.pack(decided_ms, offset) + key


def _unpack_age(aged: bytes) -> tuple[int, int, bytes]:
    """Unpack when an id row was decided, its offset and its key."""
    return *_AGE.unpack_from(aged), aged[_AGE.size :]
