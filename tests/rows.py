"""The rows of a first-seen table, for tests that look into one."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.engine.first_seen_rows import Row, decode_row
from pipeline.engine.identity import KEY_BYTES
from pipeline.engine.tables import Table


def rows(table: Table) -> Iterator[tuple[bytes, Row]]:
    """Yield the key and the row of each tuple, without the other entries of the table."""
    for key, value in table.items():
        if len(key) == KEY_BYTES:
            yield key, decode_row(value)
