"""text and match_only_text: values are analysed into words, and so are literals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.kql.nodes import Operator
from pipeline.kql.patterns import StarPattern, WordPattern
from pipeline.kql.predicates import (
    AnyWord,
    Phrase,
    Predicate,
    WordInterval,
    comparison,
)
from pipeline.kql.values.base import Operand, ValueType
from pipeline.kql.values.folding import lower, scalar_text, words


@dataclass(frozen=True, slots=True)
class TextType(ValueType):
    """A text is indexed as a tuple of its words (in lower case, split at non-word characters)."""

    name: str = "text"

    def index(self, raw: Any) -> tuple[str, ...] | None:
        text = scalar_text(raw)
        return None if text is None else words(text)

    def equals(self, operand: Operand) -> Predicate:
        wanted = words(operand.text)
        if operand.phrase and len(wanted) > 1:
            return Phrase(f" {' '.join(wanted)} ")
        return AnyWord(frozenset(wanted))

    def matches(self, parts: tuple[str, ...]) -> Predicate:
        return WordPattern(StarPattern(tuple(lower(part) for part in parts)))

    def compares(self, operator: Operator, operand: Operand) -> Predicate:
        # Elasticsearch analyses neither bound of a range, so a capital is less than every word.
        return WordInterval(comparison(operator, operand.text))
