"""Reads fields: a document is a bag of path -> values, however it is written.

``{"a": {"b": 1}}``, ``{"a.b": 1}`` and ``{"a": [{"b": [1]}]}`` are the same document. Arrays,
including arrays of arrays, are sets of values; null, ``[]`` and ``[null]`` vanish; an empty string
stays.

Readers are total. They walk arrays with a loop, so nesting costs no stack; they recurse only on the
dotted path of the query, not on the document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, Protocol

from pipeline.kql.memo import Memo


class Read(Protocol):
    """Reads one field: None for no value, a scalar for one value, a list of scalars for several.

    A single value is by far the most common case, and returning it bare is what makes a match
    cheap. Use `as_list` where that does not matter. With a memo, a search of the event is done only
    once.
    """

    def __call__(self, event: dict[str, Any], memo: Memo | None = None, /) -> Any: ...


_SEARCHES: Final = 4
"""Up to this many fields are searched for one by one. For more, all values of the event are
collected."""

_LONGEST_PATH: Final = 1024
"""Values at longer paths are not collected: in a deep event with long keys, the paths would take
many times the memory of the event."""


def as_dict(event: Any) -> dict[str, Any]:
    """Return an event as the plain dict that readers expect; a non-object becomes an empty dict."""
    if type(event) is dict:
        return event
    return dict(event) if isinstance(event, Mapping) else {}


def as_list(values: Any) -> list[Any]:
    """Return the result of a `Read` as a list."""
    if values is None:
        return []
    return values if type(values) is list else [values]


def flatten(value: Any) -> Iterator[Any]:
    """Yield the non-null elements of a value that may be an array (of arrays ...)."""
    if not isinstance(value, list):
        if value is not None:
            yield value
        return
    stack = [iter(value)]
    while stack:
        for element in stack[-1]:
            if isinstance(element, list):
                stack.append(iter(element))
                break
            if element is not None:
                yield element
        else:
            stack.pop()


@lru_cache(maxsize=1024)
def scalar_reader(path: str) -> Read:
    """Return a reader of the scalar values at a dotted path."""
    # At each level: the key to follow, and the dotted spellings that may start here instead.
    segments = path.split(".")
    levels = tuple((segments[i], tuple(_spellings(segments, i))) for i in range(len(segments)))
    *inner, (last, _) = levels
    search = _Search(path, segments)

    def read(event: dict[str, Any], memo: Memo | None = None) -> Any:
        here: Any = event
        for key, spellings in inner:
            for spelling in spellings:
                if spelling in here:
                    return search(event, memo)
            here = here.get(key)
            if type(here) is not dict:
                return None if here is None else search(event, memo)
        value = here.get(last)
        kind = type(value)
        if kind is str or value is None:
            return value
        if kind is list and value and all(type(each) is str for each in value):
            return value if len(value) > 1 else value[0]
        if kind is list or kind is dict:
            return search(event, memo)
        return value

    return read


def _spellings(segments: list[str], start: int) -> Iterator[str]:
    for end in range(start + 2, len(segments) + 1):
        yield ".".join(segments[start:end])


class _Search:
    """The general case: every spelling, through arrays of any depth."""

    def __init__(self, path: str, segments: list[str]) -> None:
        self._path = path
        self._segments = segments
        self._gathers = len(path) <= _LONGEST_PATH

    def __call__(self, event: dict[str, Any], memo: Memo | None) -> Any:
        if memo is None:
            return self._find(event)
        searched: dict[str, Any] | None = memo.get(_SEARCHED)
        if searched is None:
            searched = memo[_SEARCHED] = {}
        if self._path in searched:
            return searched[self._path]
        if len(searched) < _SEARCHES or not self._gathers:
            found = self._find(event)
        else:
            gathered = memo.get(_GATHERED)
            if gathered is None:
                gathered = memo[_GATHERED] = _gather(event)
            found = _bare(gathered.get(self._path, []))
        searched[self._path] = found
        return found

    def _find(self, event: dict[str, Any]) -> Any:
        return _bare([v for v in values_at(event, self._segments) if not isinstance(v, dict)])


_SEARCHED: Final = object()
_GATHERED: Final = object()


def _bare(values: list[Any]) -> Any:
    if not values:
        return None
    return values[0] if len(values) == 1 else values


def _gather(event: dict[str, Any]) -> dict[str, list[Any]]:
    """Return every scalar of an event, by path."""
    gathered: dict[str, list[Any]] = {}
    for path, value in scalars(event, None, _is_short):
        if _is_short(path):
            gathered.setdefault(path, []).append(value)
    return gathered


def _is_short(path: str) -> bool:
    return len(path) <= _LONGEST_PATH


def scalars(
    value: dict[str, Any], path: str | None, enters: Callable[[str], bool]
) -> Iterator[tuple[str, Any]]:
    """Yield each scalar of an object, at all levels, with its path.

    Args:
        value: the object.
        path: its path; None for an event.
        enters: whether to look into an object at a path.
    """
    stack = [entries(value, path)]
    while stack:
        for at, entry in stack[-1]:
            if not isinstance(entry, dict):
                yield at, entry
            elif enters(at):
                stack.append(entries(entry, at))
                break
        else:
            stack.pop()


def entries(value: dict[str, Any], path: str | None) -> Iterator[tuple[str, Any]]:
    """Yield each value of an object, and each element of its arrays, with its path.

    Args:
        value: the object.
        path: its path; None for an event.
    """
    for key, entry in value.items():
        if isinstance(key, str):
            full = key if path is None else f"{path}.{key}"
            for element in flatten(entry):
                yield full, element


def values_at(event: Any, segments: list[str]) -> Iterator[Any]:
    """Yield everything at a path: scalars and objects, in document order."""
    if not segments:
        yield from flatten(event)
        return
    for element in flatten(event):
        if not isinstance(element, dict):
            continue
        for end in range(1, len(segments) + 1):
            value = element.get(".".join(segments[:end]))
            if value is not None:
                yield from values_at(value, segments[end:])


def object_reader(path: str) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """Return a reader of the objects at a path, for nested blocks.

    Dotted keys that continue below the path (``{"dll.Ext.code_signature.trusted": true}``) count as
    one object for each place where they occur.
    """
    segments = path.split(".")

    def read(event: dict[str, Any]) -> list[dict[str, Any]]:
        return list(_objects(event, segments))

    return read


def _objects(event: Any, segments: list[str]) -> Iterator[dict[str, Any]]:
    if not segments:
        yield from (element for element in flatten(event) if isinstance(element, dict))
        return
    path = ".".join(segments) + "."
    for element in flatten(event):
        if not isinstance(element, dict):
            continue
        for end in range(1, len(segments) + 1):
            value = element.get(".".join(segments[:end]))
            if value is not None:
                yield from _objects(value, segments[end:])
        below = {k[len(path) :]: v for k, v in element.items() if _continues(k, path)}
        if below:
            yield below


def _continues(key: Any, path: str) -> bool:
    return isinstance(key, str) and len(key) > len(path) and key.startswith(path)


def scalars_below(value: Any) -> Iterator[Any]:
    """Yield every scalar at or below a value, at any depth."""
    stack = [flatten(value)]
    while stack:
        for element in stack[-1]:
            if isinstance(element, dict):
                stack.extend(flatten(v) for v in reversed(element.values()))
                break
            yield element
        else:
            stack.pop()


def subtree_reader(path: str) -> Read:
    """Return a reader of every scalar at or below a path, for flattened fields."""
    segments = path.split(".")

    key = subtree_reader, path

    def read(event: dict[str, Any], memo: Memo | None = None) -> Any:
        if memo is None:
            return list(_scalars_of_subtree(event, segments)) or None
        if key not in memo:
            memo[key] = list(_scalars_of_subtree(event, segments)) or None
        return memo[key]

    return read


def _scalars_of_subtree(event: dict[str, Any], segments: list[str]) -> Iterator[Any]:
    for value in values_at(event, segments):
        yield from scalars_below(value)
    for below in _dotted_below(event, segments):
        yield from scalars_below(below)


def _dotted_below(event: Any, segments: list[str]) -> Iterator[Any]:
    """Yield the values of keys that spell a longer path than this one."""
    path = ".".join(segments) + "."
    for element in flatten(event):
        if not isinstance(element, dict):
            continue
        for key, value in element.items():
            if _continues(key, path):
                yield value
        for end in range(1, len(segments)):
            value = element.get(".".join(segments[:end]))
            if value is not None:
                yield from _dotted_below(value, segments[end:])
