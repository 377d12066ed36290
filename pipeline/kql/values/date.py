"""date and date_nanos, at a resolution of milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.kql.dates import Clock, DateBound, date_bound, epoch_ms
from pipeline.kql.nodes import Operator
from pipeline.kql.values.base import Operand, Predicate, ValueRefused, ValueType, ordered


@dataclass(frozen=True, slots=True)
class DateType(ValueType):
    """Epoch milliseconds. ``field:2024-01`` is the range of everything it stands for."""

    name: str = "date"
    pattern_hint = "leave parts out: 2024-01"

    def index(self, raw: Any) -> int | None:
        return epoch_ms(raw)

    def equals(self, operand: Operand) -> Predicate:
        after = self.compares(">=", operand)
        before = self.compares("<=", operand)
        return lambda value: after(value) and before(value)

    def compares(self, operator: Operator, operand: Operand) -> Predicate:
        bound = date_bound(operand.text, up=operator in {"<=", ">"})
        if bound is None:
            raise ValueRefused(
                f"`{operand.text}` is not a date",
                "write 2024-01-31, 2024-01-31T08:00:00Z or date math",
            )
        if bound.anchor_ms is not None:
            return ordered(operator, bound.at(bound.anchor_ms))
        if operand.clock is None:
            raise ValueRefused(
                "`now` has no meaning here: no clock was given",
                "a rule sees events as they arrive; write an absolute date",
            )
        return _moving(operator, bound, operand.clock)


def _moving(operator: Operator, bound: DateBound, clock: Clock) -> Predicate:
    def holds(value: int) -> bool:
        return ordered(operator, bound.at(clock()))(value)

    return holds
