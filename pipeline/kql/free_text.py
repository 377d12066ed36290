"""Free text: a literal without a field is searched for in every mapped field of the event.

Elasticsearch searches its default fields leniently: types that cannot be compared with the text are
skipped. A pattern becomes a query_string, which is split at spaces into alternatives. Fields inside
nested objects are not searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pipeline.kql.blocks import Test
from pipeline.kql.field_table import FieldTable
from pipeline.kql.joint_tests import JointTest
from pipeline.kql.memo import Memo
from pipeline.kql.nodes import Boolean, Text, Wildcard, literal_text
from pipeline.kql.predicates import Predicate
from pipeline.kql.shared_patterns import SharedPatterns
from pipeline.kql.values import Operand, ValueRefused, ValueType
from pipeline.kql.walk import indexed_by_type

_KEY: Final = object()

SEPARATORS = " \t\n\r\u3000"
"""The characters at which query_string splits."""

_OPERATORS = frozenset({"AND", "OR", "NOT"})


def pattern_parts(wildcard: Wildcard) -> Iterator[tuple[str, ...]]:
    """Yield the alternatives that a query_string makes of a pattern, as texts between stars.

    An alternative with only one text contains no star: it is an ordinary value. Words without a
    star that follow each other are one alternative, joined by single spaces (Lucene's QueryParser:
    MultiTerm).
    """
    words: list[str] = []
    for piece in _pieces(wildcard):
        if len(piece) == 1:
            words.append(piece[0])
            continue
        if words:
            yield (" ".join(words),)
            words = []
        yield piece
    if words:
        yield (" ".join(words),)


def operator_in(wildcard: Wildcard) -> str | None:
    """Return the first word of a pattern that a query_string takes for an operator, if any."""
    words = (piece[0] for piece in _pieces(wildcard) if len(piece) == 1)
    return next((word for word in words if word in _OPERATORS), None)


def _pieces(wildcard: Wildcard) -> Iterator[tuple[str, ...]]:
    """Yield what is between the spaces of a pattern, as texts between stars."""
    piece: list[str] = []
    for text in wildcard.parts:
        first, *rest = _split(text)
        piece.append(first)
        for start in rest:
            if piece != [""]:
                yield tuple(piece)
            piece = [start]
    if piece != [""]:
        yield tuple(piece)


def _split(text: str) -> list[str]:
    for separator in SEPARATORS[1:]:
        text = text.replace(separator, " ")
    return text.split(" ")


def part_predicate(value_type: ValueType, part: tuple[str, ...]) -> Predicate:
    """Return the test for one alternative of a split pattern.

    Raises:
        ValueRefused: the type cannot be compared with it.
    """
    if len(part) == 1:
        return value_type.equals(Operand(part[0]))
    return value_type.matches(part)


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
        return cls({value_type: _tests(value_type, value) for value_type in table.value_types})

    @classmethod
    def join(cls, texts: Sequence[FreeText]) -> FreeText:
        """Combine several into one, so that an event is walked once."""
        return cls(
            {
                value_type: tuple(test for text in texts for test in text.predicates[value_type])
                for value_type in texts[0].predicates
            }
        )

    def compile(self, table: FieldTable, patterns: SharedPatterns) -> Test:
        """Return a test of an event."""
        by_type = tuple(
            (
                table.type_numbers[value_type],
                JointTest(tests, patterns.of_field((_KEY, value_type))),
            )
            for value_type, tests in self.predicates.items()
            if tests
        )

        def test(event: dict[str, Any], memo: Memo) -> bool:
            found = indexed_by_type(event, table, memo)
            for number, joint in by_type:
                indexed = found[number]
                if indexed is not None and joint(indexed, memo.budget):
                    return True
            return False

        return test


def _tests(value_type: ValueType, value: Text | Boolean | Wildcard) -> tuple[Predicate, ...]:
    """Return what the literal means for one type; nothing if the type refuses it."""
    if isinstance(value, Wildcard):
        parts = pattern_parts(value)
        attempts = [partial(part_predicate, value_type, part) for part in parts]
    else:
        phrase = isinstance(value, Text) and value.quoted
        attempts = [partial(value_type.equals, Operand(literal_text(value), phrase))]
    predicates = []
    for attempt in attempts:
        with suppress(ValueRefused):
            predicates.append(attempt())
    return tuple(predicates)
