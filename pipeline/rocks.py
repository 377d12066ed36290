"""RocksDB, as the stream and the replay both read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rocksdict import Rdict


def rows(
    db: Rdict, start: bytes, unusable: Callable[[Exception], Exception]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield every (key, value) whose key is at or after `start`, in order of the keys.

    Args:
        db: opened in raw mode.
        start: the key; empty for all rows.
        unusable: makes what is raised where RocksDB cannot read further. To an iterator damage is
            its end, as the last row is, and only its status tells them apart.
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
