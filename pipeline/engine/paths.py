"""Reading a field of an event however the event spells it.

A field is a dotted path. An event may nest objects, use dotted keys, put arrays and arrays of
objects anywhere and mix all of it: as in Elasticsearch, all the values at a path are one bag. The
compiled matchers have their own readers with types; this one is for the few fields that the engine
itself needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.types import Event


def leaves(event: Event, path: str) -> list[Any]:
    """Return the values at a path; null is no value.

    Objects are no values, so a path that leads to an object has none.
    """
    return list(_search(event, path))


def text(event: Event, path: str) -> str | None:
    """Return the one text at a path, or None when there is none, another type or several."""
    values = leaves(event, path)
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return None


def _search(node: Any, path: str) -> Iterator[Any]:
    if isinstance(node, list):
        for item in node:
            yield from _search(item, path)
        return
    if not isinstance(node, dict):
        return
    if path in node:
        yield from _flat(node[path])
    end = path.find(".")
    while end != -1:
        head = path[:end]
        if head in node:
            yield from _search(node[head], path[end + 1 :])
        end = path.find(".", end + 1)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    elif value is not None and not isinstance(value, dict):
        yield value
