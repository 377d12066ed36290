"""What every field type can do: index a value, and compare what it indexed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.kql.dates import Clock
from pipeline.kql.nodes import Operator
from pipeline.kql.predicates import Predicate
from pipeline.types import Term


class ValueRefused(Exception):  # noqa: N818  (it is caught and told as a QueryTypeError)
    """A literal that a type cannot be compared with; the compiler adds the place in the text."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Operand:
    """A literal to compare with.

    Attributes:
        text: what it says.
        phrase: True when it was quoted: on a text field its words are wanted in a row.
        clock: the present moment, for date math on `now`; None when there is none.
    """

    text: str
    phrase: bool = False
    clock: Clock | None = None


class ValueType(ABC):
    """One field type. Instances are immutable.

    `index` is total: a JSON value that the type would not index (wrong type, too long, out of
    range) is None, and thereby as good as missing. What Elasticsearch calls a malformed value
    must never stop a stream.
    """

    __slots__ = ()

    name: str
    pattern_hint: ClassVar[str | None] = None
    """What to write instead of a pattern, for a type that takes none."""

    @abstractmethod
    def index(self, raw: Any) -> Any | None:
        """The value in the form that predicates compare, or None when it is not indexed."""

    def term(self, raw: Any) -> Term | None:
        """The value as an aggregation reports it, or None when it is not indexed."""
        indexed: Term | None = self.index(raw)
        return indexed

    @abstractmethod
    def equals(self, operand: Operand) -> Predicate:
        """The test that ``field:value`` stands for. Raises ValueRefused."""

    def matches(self, parts: tuple[str, ...]) -> Predicate:
        """The test that a pattern stands for, given as texts between stars. Raises ValueRefused."""
        pattern = "*".join(parts)
        raise ValueRefused(f"`{pattern}`: this type takes no wildcards", self.pattern_hint)

    @abstractmethod
    def compares(self, operator: Operator, operand: Operand) -> Predicate:
        """The test that ``field >= value`` stands for. Raises ValueRefused."""
