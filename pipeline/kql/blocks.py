"""Nested blocks on many objects: each clause is evaluated once, for all objects together.

A result is an integer with one bit for each object for which the clause holds, so that *and*, *or*
and *not* are one operation each. The values of a field are read once for all clauses of all rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Final, TypeAlias

from pipeline.kql.field_type import FieldType
from pipeline.kql.fields import as_list, object_reader
from pipeline.kql.indexed import Indexed
from pipeline.kql.memo import Budget, Memo
from pipeline.kql.predicates import Fits

_FITS: Final = 100
"""Estimated nanoseconds to test one value."""


class Block:
    """The objects at a nested path, in an event or in the objects of the enclosing path.

    Attributes:
        objects: the objects.
        everything: the result that includes all of them.
        budget: what evaluating them may cost.
        memo: what is known of all of them together.
    """

    def __init__(self, objects: Sequence[dict[str, Any]], budget: Budget) -> None:
        self.objects = objects
        self.everything = (1 << len(objects)) - 1
        self.budget = budget
        self.memo = Memo(budget)
        self._columns: dict[object, Column] = {}
        self._inner: dict[str, tuple[Block, tuple[int, ...]]] = {}

    @cached_property
    def memos(self) -> list[Memo]:
        """What is known of each object."""
        return [Memo(self.budget) for _ in self.objects]

    def column(self, field: FieldType, key: object, nested: str) -> Column:
        """Return the values of a field in all objects."""
        found = self._columns.get(key)
        if found is None:
            found = self._columns[key] = Column(self, field, nested)
        return found

    def each(self, test: Test, cost: int) -> int:
        """Test each object on its own, at this cost in nanoseconds for each."""
        self.budget.spend(cost * len(self.objects))
        holds = map(test, self.objects, self.memos)
        return _number(number for number, held in enumerate(holds) if held)

    def inner(self, path: str, rows: Rows) -> int:
        """Return which objects contain an object at a deeper path for which `rows` holds."""
        found = self._inner.get(path)
        if found is None:
            read = object_reader(path)
            pairs = [(n, one) for n, outer in enumerate(self.objects) for one in read(outer)]
            inside = Block([one for _, one in pairs], self.budget)
            found = self._inner[path] = inside, tuple(n for n, _ in pairs)
        block, outer = found
        held = rows(block)
        if not held:
            return 0
        self.budget.spend(_FITS * len(outer))
        digits = f"{held:b}"[::-1]
        return _number(n for n, digit in zip(outer, digits, strict=False) if digit == "1")


Test: TypeAlias = Callable[[dict[str, Any], Memo], bool]
"""A test of an event, or of one object of a nested path, with what is known of it so far."""

Rows: TypeAlias = Callable[[Block], int]
"""A test of all objects of a block; returns those for which it holds, as bits."""


class Column:
    """The values that the objects of a block have in one field.

    Attributes:
        indexed: the distinct values.
    """

    def __init__(self, block: Block, field: FieldType, nested: str) -> None:
        read, index = field.reader(nested), field.value_type.index
        holders: dict[Any, list[int]] = {}
        for number, one in enumerate(block.objects):
            for raw in as_list(read(one)):
                value = index(raw)
                if value is not None:
                    holders.setdefault(value, []).append(number)
        self._holders = holders
        self._rows: dict[Any, int] = {}
        self.indexed = Indexed.of(holders.keys())

    def rows_of_any(self, wanted: frozenset[Any]) -> int:
        """Return which objects have any of these values."""
        rows = 0
        for value in self._holders.keys() & wanted:
            rows |= self.rows_of(value)
        return rows

    def rows_of(self, value: Any) -> int:
        """Return which objects have this value."""
        rows = self._rows.get(value)
        if rows is None:
            rows = self._rows[value] = _number(self._holders.get(value, ()))
        return rows

    def rows_where(self, tests: Sequence[Fits], budget: Budget) -> int:
        """Return which objects have a value that passes any of several tests."""
        budget.spend(_FITS * len(tests) * len(self._holders))
        rows = 0
        for value in self._holders:
            if any(test(value) for test in tests):
                rows |= self.rows_of(value)
        return rows


def _number(bits: Iterable[int]) -> int:
    """Return the integer with these bits set."""
    data = bytearray()
    for bit in bits:
        place = bit >> 3
        if place >= len(data):
            data.extend(bytes(place + 1 - len(data)))
        data[place] |= 1 << (bit & 7)
    return int.from_bytes(data, "little")
