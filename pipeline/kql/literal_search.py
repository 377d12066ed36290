"""Databases of literal texts that are all searched for in one pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def literal_database(texts: Iterable[tuple[bytes, bool]], *, once: bool = False) -> Any:
    """Return a Hyperscan database in which the number of a text is its index in `texts`.

    Args:
        texts: texts without NUL, none of them empty, each with whether to ignore its case.
        once: whether to report each text once per scan, instead of every occurrence.
    """
    # Every command imports the query language, but only a few search.
    import hyperscan  # noqa: PLC0415

    texts = list(texts)
    reporting = hyperscan.HS_FLAG_SINGLEMATCH if once else 0
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[text for text, _ in texts],
        ids=list(range(len(texts))),
        elements=len(texts),
        flags=[
            reporting | (hyperscan.HS_FLAG_CASELESS if caseless else 0) for _, caseless in texts
        ],
        literal=True,
    )
    return database
