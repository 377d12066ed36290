"""The closures that a matcher consists of, and the order in which a conjunction runs them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from pipeline.kql.blocks import Block, Rows, Test
from pipeline.kql.field_type import FieldType
from pipeline.kql.fields import Read
from pipeline.kql.indexed import Indexed
from pipeline.kql.joint_tests import JointTest
from pipeline.kql.memo import Memo
from pipeline.kql.predicates import Equal, Fits, Predicate
from pipeline.kql.shared_patterns import FieldPatterns, SharedPatterns
from pipeline.kql.values import KeywordType, TextType
from pipeline.kql.values.folding import lower

LONG: Final = 1024
"""Texts of more characters than this are indexed once for all clauses."""
LONG_WORDS: Final = 64
"""The same for analysed texts, where testing for a word means walking all of them."""


@dataclass(frozen=True, slots=True)
class Part:
    """A compiled node. A conjunction runs the cheap and selective ones first.

    Attributes:
        test: the test of an event, or of one object of a nested path.
        cost: its relative cost.
        rows: the same test, on all objects of a nested path at once.
    """

    test: Test
    cost: int
    rows: Rows


@dataclass(frozen=True, slots=True)
class Leaf:
    """Tests of one field, any of which may hold for any of its values.

    Attributes:
        field: the field.
        exact: indexed values, one of which a value may equal.
        predicates: any other tests of an indexed value.
    """

    field: FieldType
    exact: frozenset[str] = frozenset()
    predicates: tuple[Predicate, ...] = ()


WALK_COST = 1000
"""The cost of a test that walks the whole event."""

NEVER = Part(lambda _event, _memo: False, 0, lambda _block: 0)
ALWAYS = Part(lambda _event, _memo: True, 0, lambda block: block.everything)


def join_by_field(leaves: Iterable[Leaf]) -> list[Leaf]:
    """Join leaves of the same field, any of which is enough, so that its values are read once."""
    by_field: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        by_field.setdefault(leaf.field.name, []).append(leaf)
    return [_joined(same) for same in by_field.values()]


def _joined(leaves: Sequence[Leaf]) -> Leaf:
    exact = frozenset(text for leaf in leaves for text in leaf.exact)
    predicates = tuple(test for leaf in leaves for test in leaf.predicates)
    return Leaf(leaves[0].field, exact, predicates)


def all_of(parts: Sequence[Part]) -> Part:
    parts = sorted(parts, key=lambda part: part.cost)
    tests = tuple(part.test for part in parts)

    def test(event: dict[str, Any], memo: Memo) -> bool:
        for one in tests:  # noqa: SIM110  (a generator would double the cost of a match)
            if not one(event, memo):
                return False
        return True

    def rows(block: Block) -> int:
        left = block.everything
        for part in parts:
            if not left:
                break
            left &= part.rows(block)
        return left

    return Part(test, min(part.cost for part in parts), rows)


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

    def rows(block: Block) -> int:
        found = 0
        for part in parts:
            found |= part.rows(block)
        return found

    return Part(test, sum(part.cost for part in parts), rows)


def negated(part: Part) -> Part:
    test, rows = part.test, part.rows
    return Part(
        lambda event, memo: not test(event, memo),
        part.cost + 1,
        lambda block: block.everything & ~rows(block),
    )


def leaf_part(leaf: Leaf, nested: str | None, patterns: SharedPatterns) -> Part:
    read, key = leaf.field.reader(nested), memo_key(leaf.field)
    if leaf.exact and not leaf.predicates and isinstance(leaf.field.value_type, KeywordType):
        test = _exact_test(read, leaf.field, leaf.exact)
        rows = _exact_rows(leaf.field, leaf.exact, nested)
        return Part(test, _exact_cost(leaf.exact), rows)
    joint = _joint_test(leaf, patterns.of_field(key))
    single = _single_tests(leaf)
    cost = 20 + 5 * len(leaf.predicates)
    test = _general_test(read, leaf.field, single, joint)
    return Part(test, cost, _general_rows(leaf.field, single, joint, nested))


def _exact_cost(exact: frozenset[str]) -> int:
    """Return a lower cost for longer values, which rarely occur by chance.

    They decide most events, so they are tested first.
    """
    return 20 - min(20, *map(len, exact))


def _exact_test(read: Read, field: FieldType, wanted: frozenset[str]) -> Test:
    # Nothing in `wanted` is longer than ignore_above, so an equal value has been indexed.
    value_type, key = field.value_type, memo_key(field)
    index, caseless = value_type.index, field.caseless
    longest = max(map(len, wanted))

    def test(event: dict[str, Any], memo: Memo) -> bool:
        found = memo.get(key)
        if found is None:
            raw = read(event, memo)
            if type(raw) is str:  # folding keeps the number of characters
                return len(raw) <= longest and (lower(raw) if caseless else raw) in wanted
            if type(raw) is not list:
                return raw is not None and index(raw) in wanted
            found = memo[key] = Indexed(raw, value_type)
        return not found.values.isdisjoint(wanted)

    return test


def _exact_rows(field: FieldType, wanted: frozenset[str], nested: str | None) -> Rows:
    key = memo_key(field)
    return lambda block: block.column(field, key, nested or "").rows_of_any(wanted)


def _single_tests(leaf: Leaf) -> tuple[Fits, ...]:
    """Return the tests of a single value; all equality tests are one look-up."""
    equal = leaf.exact.union(p.value for p in leaf.predicates if isinstance(p, Equal))
    others = tuple(p.fits for p in leaf.predicates if not isinstance(p, Equal))
    return (equal.__contains__, *others) if equal else others


def _joint_test(leaf: Leaf, patterns: FieldPatterns) -> JointTest:
    return JointTest((*map(Equal, leaf.exact), *leaf.predicates), patterns)


def _general_test(read: Read, field: FieldType, single: Sequence[Fits], joint: JointTest) -> Test:
    value_type, key = field.value_type, memo_key(field)
    index = value_type.index
    longest = min(LONG, LONG_WORDS) if isinstance(value_type, TextType) else LONG

    def test(event: dict[str, Any], memo: Memo) -> bool:
        found = memo.get(key)
        if found is None:
            raw = read(event, memo)
            if raw is None:
                return False
            kind = type(raw)
            if kind is not list and (kind is not str or len(raw) <= longest):
                value = index(raw)
                if value is not None:
                    for fits in single:
                        if fits(value):
                            return True
                return False
            found = memo[key] = Indexed(raw, value_type)
        return joint(found, memo.budget)

    return test


def _general_rows(
    field: FieldType, single: Sequence[Fits], joint: JointTest, nested: str | None
) -> Rows:
    key = memo_key(field)

    def rows(block: Block) -> int:
        column = block.column(field, key, nested or "")
        # Usually no value fits, which one test of all values together can tell.
        if not joint(column.indexed, block.budget):
            return 0
        return column.rows_where(single, block.budget)

    return rows


@lru_cache(maxsize=4096)
def memo_key(field: FieldType) -> object:  # noqa: ARG001 - one object for each
    """Return the key of a field in memos: equal fields share it, and comparing it is fast."""
    return object()
