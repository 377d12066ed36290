"""Finds the mapped values of a whole event, in one walk for all clauses that need them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from pipeline.kql.field_table import FieldTable
from pipeline.kql.field_type import FieldType
from pipeline.kql.fields import scalars
from pipeline.kql.indexed import Indexed
from pipeline.kql.memo import Memo
from pipeline.kql.values import ValueType

_BY_TYPE: Final = object()
_ASKED: Final = object()
_OBJECTS: Final = object()


def mapped_scalars(
    event: dict[str, Any], table: FieldTable, nested: str | None, below: str | None = None
) -> Iterator[tuple[str, FieldType, Any]]:
    """Yield every scalar of an event, with its path and each field that indexes it.

    Args:
        event: the event, or an object of the nested path.
        table: which fields are mapped.
        nested: the nested path whose objects are walked instead of whole events.
        below: if given, only fields below this path.
    """

    def enters(path: str) -> bool:
        return table.has_below(path) and _leads_to(path, below)

    for path, value in scalars(event, nested, enters):
        if below is None or path.startswith(below + "."):
            yield from ((path, f, value) for f in table.views(path) if f.nested == nested)


def _leads_to(path: str, below: str | None) -> bool:
    return below is None or f"{below}.".startswith(f"{path}.") or path.startswith(f"{below}.")


def indexed_by_type(
    event: dict[str, Any], table: FieldTable, memo: Memo
) -> Sequence[Indexed | None]:
    """Return all mapped values of an event outside of nested objects.

    Returns:
        A sequence indexed by the table's number of the values' type; None if there are no values of
        a type.
    """
    key = _BY_TYPE, table
    found: list[Indexed | None] | None = memo.get(key)
    if found is None:
        raw: dict[ValueType, list[Any]] = {}
        for _, field, value in mapped_scalars(event, table, None):
            raw.setdefault(field.value_type, []).append(value)
        found = memo[key] = [None] * len(table.type_numbers)
        for value_type, values in raw.items():
            found[table.type_numbers[value_type]] = Indexed(values, value_type)
    return found


def has_below(
    path: str, event: dict[str, Any], table: FieldTable, nested: str | None, memo: Memo
) -> bool:
    """Whether an object has any indexed value in a field below it."""
    asked = _ASKED, table, nested
    if asked not in memo:
        # The first time, search for just one: it is usually found at once.
        memo[asked] = True
        found = mapped_scalars(event, table, nested, below=path)
        return any(field.value_type.index(value) is not None for _, field, value in found)
    key = _OBJECTS, table, nested
    objects: set[str] | None = memo.get(key)
    if objects is None:
        objects = memo[key] = set()
        for at, field, value in mapped_scalars(event, table, nested):
            above = at.rpartition(".")[0]
            if above not in objects and field.value_type.index(value) is not None:
                while above and above not in objects:
                    objects.add(above)
                    above = above.rpartition(".")[0]
    return path in objects
