"""The closures a matcher is made of, and the order in which a conjunction asks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from pipeline.kql.field_type import FieldType
from pipeline.kql.fields import Read
from pipeline.kql.indexed import Indexed, Memo
from pipeline.kql.pattern_set import PatternSet
from pipeline.kql.patterns import StarPattern, WordPattern
from pipeline.kql.values import KeywordType, Predicate
from pipeline.kql.values.folding import lower

Test: TypeAlias = Callable[[dict[str, Any], Memo], bool]
"""A test of an event, or of one object of a nested path, with what was indexed of it so far."""

LONG: Final = 1024
"""Characters of a text that is indexed once for all clauses."""


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

NEVER = Part(lambda _event, _memo: False, 0)
ALWAYS = Part(lambda _event, _memo: True, 0)


def join(leaves: Sequence[Leaf]) -> Leaf:
    """One leaf for several of the same field, so that its values are read once."""
    exact = frozenset(text for leaf in leaves for text in leaf.exact)
    predicates = tuple(test for leaf in leaves for test in leaf.predicates)
    return Leaf(leaves[0].field, exact, predicates)


def all_of(parts: Sequence[Part]) -> Part:
    tests = tuple(part.test for part in sorted(parts, key=lambda part: part.cost))

    def test(event: dict[str, Any], memo: Memo) -> bool:
        for one in tests:  # noqa: SIM110  (a generator would double the cost of a match)
            if not one(event, memo):
                return False
        return True

    return Part(test, min(part.cost for part in parts))


def any_of(parts: Sequence[Part]) -> Part:
    if not parts:
        return NEVER
    if len(parts) == 1:
        return parts[0]
    tests = tuple(part.test for part in parts)

    def test(event: dict[str, Any], memo: Memo) -> bool:
        for one in tests:  # noqa: SIM110  (as above)
            if one(event, memo):
                return True
        return False

    return Part(test, sum(part.cost for part in parts))


def leaf_part(leaf: Leaf, nested: str | None) -> Part:
    read = leaf.field.reader(nested)
    if leaf.exact and not leaf.predicates and isinstance(leaf.field.values, KeywordType):
        return Part(_exact_test(read, leaf.field, leaf.exact), _exact_cost(leaf.exact))
    return Part(_general_test(read, leaf), 20 + 5 * len(leaf.predicates))


def _exact_cost(exact: frozenset[str]) -> int:
    """Long values are rarely equal by chance: they decide most events, so they are asked first."""
    return 20 - min(20, *map(len, exact))


def _exact_test(read: Read, field: FieldType, wanted: frozenset[str]) -> Test:
    # Nothing in `wanted` is longer than ignore_above, so a value that is equal is indexed.
    values, key = field.values, memo_key(field)
    index, caseless = values.index, field.caseless
    longest = max(map(len, wanted))

    def test(event: dict[str, Any], memo: Memo) -> bool:
        found = memo.get(key)
        if found is None:
            raw = read(event)
            if type(raw) is str:  # lower case has as many characters
                return len(raw) <= longest and (lower(raw) if caseless else raw) in wanted
            if type(raw) is not list:
                return raw is not None and index(raw) in wanted
            found = memo[key] = Indexed(raw, values)
        return not found.values.isdisjoint(wanted)

    return test


def _general_test(read: Read, leaf: Leaf) -> Test:
    values, key = leaf.field.values, memo_key(leaf.field)
    index, several = values.index, _several_test(leaf)
    predicates = tuple(p.fits if isinstance(p, StarPattern) else p for p in leaf.predicates)
    if leaf.exact:
        predicates = (leaf.exact.__contains__, *predicates)

    def test(event: dict[str, Any], memo: Memo) -> bool:
        found = memo.get(key)
        if found is None:
            raw = read(event)
            if raw is None:
                return False
            kind = type(raw)
            if kind is not list and (kind is not str or len(raw) <= LONG):
                value = index(raw)
                return value is not None and any(predicate(value) for predicate in predicates)
            found = memo[key] = Indexed(raw, values)
        return several(found)

    return test


def _several_test(leaf: Leaf) -> Callable[[Indexed], bool]:
    """Return the test of many values, or of a long one."""
    of_texts = [p for p in leaf.predicates if isinstance(p, StarPattern)]
    of_words = [p.of_word for p in leaf.predicates if isinstance(p, WordPattern)]
    others = [p for p in leaf.predicates if not isinstance(p, StarPattern | WordPattern)]
    texts, words = PatternSet(of_texts), PatternSet(of_words)

    def test(found: Indexed) -> bool:
        if leaf.exact and not found.values.isdisjoint(leaf.exact):
            return True
        if of_texts and texts.fits_any(found.texts):
            return True
        if of_words and words.fits_any(found.words):
            return True
        return any(predicate(value) for predicate in others for value in found.values)

    return test


@lru_cache(maxsize=4096)
def memo_key(field: FieldType) -> object:  # noqa: ARG001 - one object for each
    """Return what a field is called in a memo: equal fields share it, and it is found at once."""
    return object()
