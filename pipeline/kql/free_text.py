"""Free text: a literal without a field is searched for in every mapped field of the event.

Elasticsearch searches its default fields leniently: types that cannot be compared with the text are
skipped. A pattern becomes a query_string, which is split at spaces into alternatives. Fields inside
nested objects are searched only within a nested block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pipeline.kql.blocks import Block, Rows, Test
from pipeline.kql.field_table import FieldTable
from pipeline.kql.memo import Memo
from pipeline.kql.nodes import Boolean, Text, Wildcard, literal_text
from pipeline.kql.predicates import Predicate
from pipeline.kql.several import Searches, Several
from pipeline.kql.values import Operand, ValueRefused, ValueType
from pipeline.kql.walk import leaves_by_type

_ALONE: Final = 20_000
"""Estimated nanoseconds to test the values of one object of a nested path on their own."""

_KEY: Final = object()

SEPARATORS = " \t\n\r\u3000"
"""The characters at which query_string splits."""


def pattern_parts(wildcard: Wildcard) -> Iterator[tuple[str, ...]]:
    """Yield the alternatives that a query_string makes of a pattern, as texts between stars.

    An alternative with only one text contains no star: it is an ordinary value.
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
    """Return the test for one alternative of a split pattern.

    Raises:
        ValueRefused: the type cannot be compared with it.
    """
    if len(part) == 1:
        return values.equals(Operand(part[0]))
    return values.matches(part)


@dataclass(frozen=True, slots=True)
class FreeText:
    """The meaning of literals without a field, any of which may hold.

    Attributes:
        predicates: the tests, by the type of the values that they test.
    """

    predicates: Mapping[ValueType, tuple[Predicate, ...]]

    @classmethod
    def of(cls, value: Text | Boolean | Wildcard, table: FieldTable) -> FreeText:
        """Return the meaning of one literal."""
        return cls({values: _tests(values, value) for values in table.value_types})

    @classmethod
    def join(cls, texts: Sequence[FreeText]) -> FreeText:
        """Combine several into one, so that an event is walked once."""
        return cls(
            {
                values: tuple(test for text in texts for test in text.predicates[values])
                for values in texts[0].predicates
            }
        )

    def compile(
        self, table: FieldTable, nested: str | None, searches: Searches
    ) -> tuple[Test, Rows]:
        """Return a test of one event or nested object, and a test of all objects of a block."""
        several = tuple(
            (table.type_numbers[values], Several(tests, searches.of_field((_KEY, values))))
            for values, tests in self.predicates.items()
            if tests
        )

        def holds(objects: Sequence[dict[str, Any]], memo: Memo) -> bool:
            found = leaves_by_type(objects, table, nested, memo)
            for number, of_type in several:
                indexed = found[number]
                if indexed is not None and of_type(indexed, memo.budget):
                    return True
            return False

        def test(event: dict[str, Any], memo: Memo) -> bool:
            return holds((event,), memo)

        def rows(block: Block) -> int:
            # Usually nothing is found anywhere, which one test of all objects together can tell.
            return block.each(test, _ALONE) if holds(block.objects, block.memo) else 0

        return test, rows


def _tests(values: ValueType, value: Text | Boolean | Wildcard) -> tuple[Predicate, ...]:
    """Return what the literal means for one type; nothing if the type refuses it."""
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
