"""Reading a field of an event however the event spells it.

A field is a dotted path. An event may nest objects, use dotted keys, put arrays and arrays of
objects anywhere and mix all of it: as in Elasticsearch, all the values at a path are one bag. The
compiled matchers read with types; this is for the few fields that the engine itself needs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pipeline.kql import Memo
from pipeline.kql.fields import as_dict, scalar_reader
from pipeline.types import Event


def values(event: Event, path: str, memo: Memo | None = None) -> Any:
    """Return the values at a path, as `pipeline.kql.fields.Read` does; null is no value.

    Objects are no values, so a path that leads to an object has none.
    """
    return _reader(path)(as_dict(event), memo)


def leaves(event: Event, path: str) -> list[Any]:
    """Return the `values` at a path as a list."""
    found = _reader(path)(as_dict(event))
    if found is None:
        return []
    return found if type(found) is list else [found]


def text(event: Event, path: str) -> str | None:
    """Return the one text at a path, or None when there is none, another type or several."""
    value = _reader(path)(as_dict(event))
    return value if type(value) is str else None


_reader = lru_cache(maxsize=1024)(scalar_reader)
