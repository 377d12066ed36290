"""date and date_nanos, at a resolution of milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.kql.dates import Clock, DateBound, date_bound, epoch_ms
from pipeline.kql.nodes import Operator
from pipeline.kql.predicates import ClockInterval, Interval, Predicate, comparison
from pipeline.kql.values.base import Operand, ValueRefused, ValueType


@dataclass(frozen=True, slots=True)
class DateType(ValueType):
    """Epoch milliseconds. ``field:2024-01-31`` is the range of everything it covers."""

    name: str = "date"
    pattern_hint = "write a range: field >= 2024-01 and field < 2024-02"

    def index(self, raw: Any) -> int | None:
        return epoch_ms(raw)

    def equals(self, operand: Operand) -> Predicate:
        after = self._interval(">=", operand)
        before = self._interval("<=", operand)
        if isinstance(after, Interval) and isinstance(before, Interval):
            return after.within(before)
        return ClockInterval(lambda: _now(after).within(_now(before)))

    def compares(self, operator: Operator, operand: Operand) -> Predicate:
        return self._interval(operator, operand)

    def _interval(self, operator: Operator, operand: Operand) -> Interval | ClockInterval:
        bound = date_bound(operand.text, up=operator in {"<=", ">"})
        if bound is None:
            raise ValueRefused(
                f"`{operand.text}` is not a date",
                "write 2024-01-31, 2024-01-31T08:00:00Z or date math",
            )
        if bound.anchor_ms is not None:
            return comparison(operator, bound.at(bound.anchor_ms))
        if operand.clock is None:
            raise ValueRefused(
                "`now` has no meaning here: no clock was given",
                "a rule sees events as they arrive; write an absolute date",
            )
        return _moving(operator, bound, operand.clock)


def _moving(operator: Operator, bound: DateBound, clock: Clock) -> ClockInterval:
    return ClockInterval(lambda: comparison(operator, bound.at(clock())))


def _now(interval: Interval | ClockInterval) -> Interval:
    return interval.now() if isinstance(interval, ClockInterval) else interval
