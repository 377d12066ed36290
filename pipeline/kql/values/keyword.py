"""keyword, with or without a lowercase normalizer; wildcard; constant_keyword; flattened leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.kql.nodes import Operator
from pipeline.kql.patterns import StarPattern
from pipeline.kql.predicates import Equal, Predicate, comparison
from pipeline.kql.values.base import Operand, ValueType
from pipeline.kql.values.folding import is_longer, lower, scalar_text


@dataclass(frozen=True, slots=True)
class KeywordType(ValueType):
    """Whole values, compared by code points.

    Attributes:
        caseless: whether a lowercase normalizer is applied to values and to literals.
        ignore_above: longer values (in UTF-16 units) are not indexed; None for no limit.
    """

    name: str = "keyword"
    caseless: bool = False
    ignore_above: int | None = None

    def index(self, raw: Any) -> str | None:
        text = raw if type(raw) is str else scalar_text(raw)
        if text is None:
            return None
        limit = self.ignore_above
        if limit is not None and len(text) > limit >> 1 and is_longer(text, limit):
            return None
        return lower(text) if self.caseless else text

    def equals(self, operand: Operand) -> Predicate:
        return Equal(self.normal(operand.text))

    def matches(self, parts: tuple[str, ...]) -> Predicate:
        return StarPattern(tuple(self.normal(part) for part in parts))

    def compares(self, operator: Operator, operand: Operand) -> Predicate:
        # Lucene orders terms by their UTF-8 bytes, which is the order of code points.
        return comparison(operator, self.normal(operand.text))

    def normal(self, text: str) -> str:
        return lower(text) if self.caseless else text
