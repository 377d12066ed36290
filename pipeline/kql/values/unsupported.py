"""Types that firstseen cannot compare; only whether such a field exists can be tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.kql.nodes import Operator
from pipeline.kql.predicates import Predicate
from pipeline.kql.values.base import Operand, ValueRefused, ValueType


@dataclass(frozen=True, slots=True)
class UnsupportedType(ValueType):
    name: str

    def index(self, raw: Any) -> bool | None:
        return None if raw is None else True

    def equals(self, operand: Operand) -> Predicate:
        raise ValueRefused(f"`{operand.text}`: values of this type cannot be compared")

    def compares(self, operator: Operator, operand: Operand) -> Predicate:
        raise ValueRefused(f"`{operator} {operand.text}`: values of this type cannot be compared")
