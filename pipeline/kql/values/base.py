"""What every field type can do: index a value, and compare what it has indexed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.kql.dates import Clock
from pipeline.kql.nodes import Operator
from pipeline.kql.predicates import Predicate
from pipeline.types import Term


class ValueRefused(Exception):  # noqa: N818  (it is caught and becomes a QueryTypeError)
    """A literal that a type cannot be compared with; the compiler adds its place in the text."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Operand:
    """A literal to compare with.

    Attributes:
        text: its text.
        phrase: whether it was quoted: on a text field, its words are then required in a row.
        clock: returns the present time, for date math on `now`; None if there is no clock.
    """

    text: str
    phrase: bool = False
    clock: Clock | None = None


class ValueType(ABC):
    """One field type. Instances are immutable.

    `index` is total: a JSON value that the type would not index (wrong type, too long, out of
    range) becomes None, as if it were missing. What Elasticsearch calls a malformed value must
    never stop a stream.
    """

    __slots__ = ()

    name: str
    pattern_hint: ClassVar[str | None] = None
    """What to write instead of a pattern, for a type that does not allow patterns."""

    @abstractmethod
    def index(self, raw: Any) -> Any | None:
        """Return the value in the form that predicates compare, or None if it is not indexed."""

    def term(self, raw: Any) -> Term | None:
        """Return the value as an aggregation reports it, or None if it is not indexed."""
        indexed: Term | None = self.index(raw)
        return indexed

    @abstractmethod
    def equals(self, operand: Operand) -> Predicate:
        """Return the test for ``field:value``.

        Raises:
            ValueRefused: the type cannot be compared with the literal.
        """

    def matches(self, parts: tuple[str, ...]) -> Predicate:
        """Return the test for a pattern, given as the texts between its stars.

        Raises:
            ValueRefused: the type allows no patterns.
        """
        pattern = "*".join(parts)
        raise ValueRefused(f"`{pattern}`: this type takes no wildcards", self.pattern_hint)

    @abstractmethod
    def compares(self, operator: Operator, operand: Operand) -> Predicate:
        """Return the test for ``field >= value``, or another comparison.

        Raises:
            ValueRefused: the type cannot be compared with the literal.
        """
