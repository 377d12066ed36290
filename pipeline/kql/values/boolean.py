"""boolean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.kql.nodes import Operator
from pipeline.kql.predicates import Equal, Predicate
from pipeline.kql.values.base import Operand, ValueRefused, ValueType

_TEXTS = {"true": True, "false": False, "": False}


@dataclass(frozen=True, slots=True)
class BooleanType(ValueType):
    """JSON true and false, and the texts that Elasticsearch accepts for them ("" is false)."""

    name: str = "boolean"

    def index(self, raw: Any) -> bool | None:
        if isinstance(raw, bool):
            return raw
        return _TEXTS.get(raw) if isinstance(raw, str) else None

    def equals(self, operand: Operand) -> Predicate:
        text = operand.text
        if text not in {"true", "false"}:
            raise ValueRefused(
                f"`{text}` is not a boolean", "only `true` and `false`, in lower case, are"
            )
        return Equal(text == "true")

    def compares(self, operator: Operator, operand: Operand) -> Predicate:
        raise ValueRefused(f"`{operator} {operand.text}`: a boolean takes no ranges")
