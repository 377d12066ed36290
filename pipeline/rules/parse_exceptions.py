"""Reads files of exceptions, in firstseen's own layout and in that of Elastic's exception lists.

In the own layout, an exception has a KQL query and the ids of its rules. The public layout is what
Elastic's tools for detections as code write of a rule's exception lists: a list of items, each with
a list of comparisons. Such an item becomes the filter that Kibana makes of it (`lists` plugin:
``buildExceptionItemFilter``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.rules.issues import Issue
from pipeline.rules.keys import (
    EXCEPTION_FILE_KEYS,
    EXCEPTION_ITEM_KEYS,
    EXCEPTION_KEYS,
    EXCEPTION_LIST_FILE_KEYS,
    EXCEPTION_LIST_KEYS,
    EXCEPTION_METADATA_KEYS,
)
from pipeline.rules.locate import Place, TomlSource
from pipeline.rules.model import ExceptionItem
from pipeline.rules.schema import Key, Notes, check_keys, right_values

_KEY = "exceptions"
_BY_QUERY = "write it as an exception with a query"


def holds_exceptions(document: Mapping[Any, Any]) -> bool:
    """Whether a file is one of exceptions: it has them, and no rule."""
    return _KEY in document and "rule" not in document


def parse_exceptions(
    document: Mapping[Any, Any], *, path: Path | None = None, source: TomlSource | None = None
) -> tuple[tuple[ExceptionItem, ...], tuple[Issue, ...]]:
    """Return the exceptions in a file, and everything there is to report about it.

    An exception with a mistake is left out; the others are used.
    """
    notes = Notes(path=path, source=source)
    blocks = _tables(document.get(_KEY), (_KEY,))
    if any(name in block for _, block in blocks for name in EXCEPTION_LIST_KEYS):
        check_keys(document, EXCEPTION_LIST_FILE_KEYS, (), notes)
        items = tuple(_items_of_lists(blocks, _rule_ids(document.get("metadata")), notes))
    else:
        check_keys(document, EXCEPTION_FILE_KEYS, (), notes)
        items = tuple(_items(blocks, notes))
    return items, tuple(notes.issues)


def _tables(value: Any, place: Place) -> list[tuple[Place, Mapping[str, Any]]]:
    """Return the tables in an array, with their places."""
    values = value if isinstance(value, list | tuple) else ()
    return [((*place, n), each) for n, each in enumerate(values) if isinstance(each, Mapping)]


def _items(
    blocks: Iterable[tuple[Place, Mapping[str, Any]]], notes: Notes
) -> Iterator[ExceptionItem]:
    for place, block in blocks:
        if _is_right(block, EXCEPTION_KEYS):
            yield ExceptionItem(
                name=block["name"],
                rule_ids=tuple(dict.fromkeys(block["rules"])),
                query=block["query"],
                path=notes.path,
                place=place,
                source=notes.source,
            )


def _rule_ids(metadata: Any) -> tuple[str, ...]:
    """Return the ids of the rules that a file of lists applies to; none if they are wrong."""
    if not isinstance(metadata, Mapping):
        return ()
    return tuple(dict.fromkeys(right_values(metadata, EXCEPTION_METADATA_KEYS).get("rule_ids", ())))


def _items_of_lists(
    blocks: Iterable[tuple[Place, Mapping[str, Any]]], rule_ids: tuple[str, ...], notes: Notes
) -> Iterator[ExceptionItem]:
    for list_place, block in blocks:
        for place, item in _tables(block.get("items"), (*list_place, "items")):
            if _is_right(item, EXCEPTION_ITEM_KEYS) and _is_supported(item, place, notes):
                yield ExceptionItem(
                    name=item["name"],
                    rule_ids=rule_ids,
                    filter={"bool": {"filter": [_clause(entry) for entry in item["entries"]]}},
                    list_id=item.get("list_id"),
                    path=notes.path,
                    place=place,
                    source=notes.source,
                )


def _is_right(table: Mapping[str, Any], keys: Mapping[str, Key]) -> bool:
    notes = Notes()
    check_keys(table, keys, (), notes)
    return not notes.has_errors


def _is_supported(item: Mapping[str, Any], place: Place, notes: Notes) -> bool:
    """Whether an item can be evaluated; otherwise an issue says why not."""
    before = len(notes.issues)
    if item.get("expire_time"):
        notes.add(
            "unsupported_exception",
            (*place, "expire_time"),
            f"exception {item['name']!r}: an exception has no end here, so this one is left out",
            hint="remove expire_time, and the exception when its time has come",
        )
    if item.get("os_types"):
        text = f"exception {item['name']!r}: os_types"
        notes.add("unsupported_exception", (*place, "os_types"), text, hint=_BY_QUERY)
    for inside, entry in _tables(item["entries"], (*place, "entries")):
        _check_entry(entry, item["name"], inside, notes)
    return len(notes.issues) == before


def _check_entry(entry: Mapping[str, Any], name: str, place: Place, notes: Notes) -> None:
    kind, value = entry["type"], entry.get("value")
    if kind == "list" or (kind == "nested" and entry.get("operator") == "excluded"):
        which = kind if kind == "list" else "nested that is excluded"
        text = f"exception {name!r}: an entry of type {which}"
        notes.add("unsupported_exception", (*place, "type"), text, hint=_BY_QUERY)
        return
    inner = _tables(entry.get("entries"), (*place, "entries"))
    for inside, each in inner:
        _check_entry(each, name, inside, notes)
    wanted, is_right = {
        "match": ("one string", isinstance(value, str)),
        "wildcard": ("one string", isinstance(value, str)),
        "match_any": ("an array of strings", _are_texts(value)),
        "exists": ("no value", value is None),
        "nested": ("entries, and no value", value is None and bool(inner)),
    }[kind]
    if not is_right:
        text = f"exception {name!r}: an entry of type {kind} has {wanted}"
        notes.add("bad_value", (*place, "value") if "value" in entry else place, text)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def _clause(entry: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    """Return the clause of Elasticsearch's query language that an entry stands for.

    Inside of an entry of type `nested`, names are without the path of the objects and a dot, which
    is the `parent`.
    """
    name: str = parent + entry["field"]
    value: Any = entry.get("value")
    clause: dict[str, Any]
    match entry["type"]:
        case "match":
            clause = {"match_phrase": {name: value}}
        case "match_any":
            clause = {"bool": {"should": [{"match_phrase": {name: each}} for each in value]}}
        case "exists":
            clause = {"exists": {"field": name}}
        case "nested":
            inner = [_clause(each, f"{name}.") for each in entry["entries"]]
            clause = {"nested": {"path": name, "query": {"bool": {"filter": inner}}}}
        case _:
            clause = {"wildcard": {name: value}}
    return {"bool": {"must_not": clause}} if entry.get("operator") == "excluded" else clause
