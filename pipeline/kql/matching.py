"""The closures a matcher is made of, and the order in which a conjunction asks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pipeline.kql.field_type import FieldType
from pipeline.kql.fields import Read, as_list
from pipeline.kql.values import KeywordType, Predicate
from pipeline.kql.values.folding import lower

Test: TypeAlias = Callable[[dict[str, Any]], bool]
"""A test of an event, or of one object of a nested path."""


@dataclass(frozen=True, slots=True)
class Part:
    """A compiled node. A conjunction asks the cheap and selective ones first."""

    test: Test
    cost: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """Tests of one field, any of which may hold for any of its values.

    Attributes:
        field: the field.
        exact: indexed forms that are equal to a wanted one.
        predicates: any other tests of an indexed value.
    """

    field: FieldType
    exact: frozenset[str] = frozenset()
    predicates: tuple[Predicate, ...] = ()


WALK_COST = 1000
"""The cost of a test that walks the whole event."""

NEVER = Part(lambda _: False, 0)
ALWAYS = Part(lambda _: True, 0)


def join(leaves: Sequence[Leaf]) -> Leaf:
    """One leaf for several of the same field, so that its values are read once."""
    exact = frozenset(text for leaf in leaves for text in leaf.exact)
    predicates = tuple(test for leaf in leaves for test in leaf.predicates)
    return Leaf(leaves[0].field, exact, predicates)


def all_of(parts: Sequence[Part]) -> Part:
    tests = tuple(part.test for part in sorted(parts, key=lambda part: part.cost))

    def test(event: dict[str, Any]) -> bool:
        for one in tests:  # noqa: SIM110  (a generator would double the cost of a match)
            if not one(event):
                return False
        return True

    return Part(test, min(part.cost for part in parts))


def any_of(parts: Sequence[Part]) -> Part:
    if not parts:
        return NEVER
    if len(parts) == 1:
        return parts[0]
    tests = tuple(part.test for part in parts)

    def test(event: dict[str, Any]) -> bool:
        for one in tests:  # noqa: SIM110  (as above)
            if one(event):
                return True
        return False

    return Part(test, sum(part.cost for part in parts))


def leaf_part(leaf: Leaf, nested: str | None) -> Part:
    read = leaf.field.reader(nested)
    values = leaf.field.values
    if leaf.exact and not leaf.predicates and isinstance(values, KeywordType):
        return Part(_exact_test(read, values, leaf.exact), _exact_cost(leaf.exact))
    return Part(_general_test(read, leaf), 20 + 5 * len(leaf.predicates))


def _exact_cost(exact: frozenset[str]) -> int:
    """Long values are rarely equal by chance: they decide most events, so they are asked first."""
    return 20 - min(20, *map(len, exact))


def _exact_test(read: Read, values: KeywordType, wanted: frozenset[str]) -> Test:
    # Nothing in `wanted` is longer than ignore_above, so a value that is equal is indexed.
    index = values.index
    longest = max(map(len, wanted))
    if values.caseless:

        def test(event: dict[str, Any]) -> bool:
            raw = read(event)
            if type(raw) is str:  # lower case has as many characters
                return len(raw) <= longest and lower(raw) in wanted
            return raw is not None and any(index(value) in wanted for value in as_list(raw))

    else:

        def test(event: dict[str, Any]) -> bool:
            raw = read(event)
            if type(raw) is str:
                return raw in wanted
            return raw is not None and any(index(value) in wanted for value in as_list(raw))

    return test


def _general_test(read: Read, leaf: Leaf) -> Test:
    index = leaf.field.values.index
    predicates = leaf.predicates
    if leaf.exact:
        predicates = (leaf.exact.__contains__, *predicates)

    def holds(raw: Any) -> bool:
        value = index(raw)
        return value is not None and any(predicate(value) for predicate in predicates)

    def test(event: dict[str, Any]) -> bool:
        raw = read(event)
        if type(raw) is list:
            return any(holds(value) for value in raw)
        return raw is not None and holds(raw)

    return test
