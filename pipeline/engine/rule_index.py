"""Which of many rules an event can match, judging by the values of a few fields.

Testing hundreds of rules one by one would take many times as long as decoding the event. But nearly
all queries require that some keyword fields have one of a few values (`pipeline.kql.exact`). This
module reads each of those fields once, so that only the rules whose requirements are all met have
to be tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from pipeline.kql import ExactClause, FieldType, Memo, exact_clauses
from pipeline.kql.indexed import Indexed
from pipeline.kql.matching import memo_key
from pipeline.kql.values.folding import lower
from pipeline.rules.compiled import CompiledRule

T = TypeVar("T")

_FEW: Final = 4
"""Up to this many rules are simply tested one by one: reading the indexed fields takes as long."""

_REMEMBERED: Final = 4096
"""How many combinations of index name and satisfied clauses have their rules cached."""


class RuleIndex(Generic[T]):
    """An index of rules by the exact values that they require."""

    def __init__(self, rules: Iterable[tuple[T, CompiledRule]]) -> None:
        """Index rules.

        Args:
            rules: pairs of what to return for a rule, and the rule.
        """
        rules = tuple(rules)
        bit_of: dict[ExactClause, int] = {}
        self._rules: list[tuple[T, CompiledRule, int]] = []
        for item, rule in rules:
            need = 0
            for clause in exact_clauses(rule.node, rule.fields) if len(rules) > _FEW else ():
                need |= bit_of.setdefault(clause, 1 << len(bit_of))
            self._rules.append((item, rule, need))
        by_field: dict[FieldType, dict[str, int]] = {}
        for clause, bit in bit_of.items():
            for exact in clause:
                bits = by_field.setdefault(exact.field, {})
                bits[exact.value] = bits.get(exact.value, 0) | bit
        self._fields = tuple(_satisfied_by(field, bits) for field, bits in by_field.items())
        self._remembered: dict[tuple[str | None, int], tuple[T, ...]] = {}

    def candidates(self, event: dict[str, Any], index: str | None, memo: Memo) -> Sequence[T]:
        """Return the rules that can match an event, in their original order; the others cannot.

        Args:
            event: the event.
            index: the name of its index; None to include the rules of every index.
            memo: what has been indexed of the event.
        """
        satisfied = 0
        for satisfied_by in self._fields:
            satisfied |= satisfied_by(event, memo)
        key = index, satisfied
        found = self._remembered.get(key)
        if found is None:
            found = tuple(
                item
                for item, rule, need in self._rules
                if need & satisfied == need and rule.accepts_index(index)
            )
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = found
        return found


def _satisfied_by(
    field: FieldType, bits: Mapping[Any, int]
) -> Callable[[dict[str, Any], Memo], int]:
    """Return a function that tells which clauses an event satisfies with its values of a field."""
    read, value_type, key = field.reader(), field.value_type, memo_key(field)
    index, caseless = value_type.index, field.caseless
    longest = max(map(len, bits))

    def satisfied_by(event: dict[str, Any], memo: Memo) -> int:
        raw = read(event, memo)
        if raw is None:
            return 0
        if type(raw) is str:
            # As it would be indexed. A text that is too long to be indexed is longer than all of
            # ours.
            if len(raw) > longest:
                return 0
            return bits.get(lower(raw) if caseless else raw, 0)
        if type(raw) is not list:
            return bits.get(index(raw), 0)
        found = memo[key] = Indexed(raw, value_type)
        satisfied = 0
        for value in found.values & bits.keys():
            satisfied |= bits[value]
        return satisfied

    return satisfied_by
