"""How the stream and the replay both read RocksDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rocksdict import Rdict


def rows(
    db: Rdict, start: bytes, unusable: Callable[[Exception], Exception]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield every (key, value) whose key is at or after `start`, in key order.

    Args:
        db: the database, opened in raw mode.
        start: the first key; empty for all rows.
        unusable: makes the exception to raise if RocksDB cannot read on. An iterator simply ends
            there, as it does after the last row; only its status shows the difference.
    """
    cursor = db.iter()
    cursor.seek(start)
    while cursor.valid():
        yield cursor.key(), cursor.value()
        cursor.next()
    try:
        cursor.status()
    except Exception as error:
        raise unusable(error) from error
