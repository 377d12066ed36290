"""Free text: a literal without a field is looked for in every mapped field of the event.

Elasticsearch searches its default fields leniently: a type that cannot be compared with the text
is passed over. A pattern becomes a query_string, split at spaces into alternatives. Fields inside
nested objects are searched only within a nested block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from pipeline.kql.field_table import FieldTable
from pipeline.kql.field_type import FieldType
from pipeline.kql.fields import flatten
from pipeline.kql.nodes import Boolean, Text, Wildcard, literal_text
from pipeline.kql.values import Operand, Predicate, ValueRefused, ValueType

SEPARATORS = " \t\n\r\u3000"
"""Where query_string splits."""


def pattern_parts(wildcard: Wildcard) -> Iterator[tuple[str, ...]]:
    """The alternatives that a query_string makes of a pattern, each as texts between stars.

    A part of one text holds no star: it is an ordinary value.
    """
    part: list[str] = []
    for text in wildcard.parts:
        first, *rest = _split(text)
        part.append(first)
        for piece in rest:
            if part != [""]:
                yield tuple(part)
            part = [piece]
    if part != [""]:
        yield tuple(part)


def _split(text: str) -> list[str]:
    for separator in SEPARATORS[1:]:
        text = text.replace(separator, " ")
    return text.split(" ")


def part_predicate(values: ValueType, part: tuple[str, ...]) -> Predicate:
    """The test of one alternative of a split pattern. Raises ValueRefused."""
    if len(part) == 1:
        return values.equals(Operand(part[0]))
    return values.matches(part)


def free_text(
    value: Text | Boolean | Wildcard, table: FieldTable, nested: str | None
) -> Callable[[dict[str, Any]], bool]:
    """A test of whole events, or of the objects of a nested path."""
    if isinstance(value, Wildcard) and value.is_lone:
        return lambda _: True
    tests = {values: _tests(values, value) for values in table.value_types}

    def matches(event: dict[str, Any]) -> bool:
        return any(_holds(found, raw, tests) for found, raw in mapped_leaves(event, table, nested))

    return matches


def _holds(found: FieldType, raw: Any, tests: Mapping[ValueType, tuple[Predicate, ...]]) -> bool:
    value = found.values.index(raw)
    return value is not None and any(predicate(value) for predicate in tests[found.values])


def _tests(values: ValueType, value: Text | Boolean | Wildcard) -> tuple[Predicate, ...]:
    """What the literal means for one type; nothing where the type refuses it."""
    if isinstance(value, Wildcard):
        parts = pattern_parts(value)
        attempts = [partial(part_predicate, values, part) for part in parts]
    else:
        phrase = isinstance(value, Text) and value.quoted
        attempts = [partial(values.equals, Operand(literal_text(value), phrase))]
    predicates = []
    for attempt in attempts:
        with suppress(ValueRefused):
            predicates.append(attempt())
    return tuple(predicates)


def mapped_leaves(
    event: dict[str, Any], table: FieldTable, nested: str | None, below: str | None = None
) -> Iterator[tuple[FieldType, Any]]:
    """Every scalar of an event with each field that indexes it.

    Args:
        event: the event, or the object of the nested path.
        table: which fields are mapped.
        nested: the nested path whose objects are walked instead of whole events.
        below: only fields below this path.
    """
    stack: list[Iterator[tuple[str, Any]]] = [_entries(event, nested)]
    while stack:
        for path, value in stack[-1]:
            if isinstance(value, dict):
                if table.has_below(path) and _leads_to(path, below):
                    stack.append(_entries(value, path))
                    break
            elif below is None or path.startswith(below + "."):
                yield from ((f, value) for f in table.views(path) if f.nested == nested)
        else:
            stack.pop()


def _leads_to(path: str, below: str | None) -> bool:
    return below is None or f"{below}.".startswith(f"{path}.") or path.startswith(f"{below}.")


def _entries(value: dict[str, Any], path: str | None) -> Iterator[tuple[str, Any]]:
    for key, entry in value.items():
        if isinstance(key, str):
            full = key if path is None else f"{path}.{key}"
            for element in flatten(entry):
                yield full, element
