"""Integers and floats. Comparison is by value, and exact."""

from __future__ import annotations

import math
import re
import struct
from abc import abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipeline.kql.nodes import Operator
from pipeline.kql.predicates import Equal, Predicate, ordered
from pipeline.kql.values.base import Operand, ValueRefused, ValueType
from pipeline.types import Term

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,5})?", re.ASCII)
_LONGEST = 100


def _decimal(text: str) -> Decimal | None:
    if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
        return None
    return Decimal(text)


class _NumberType(ValueType):
    __slots__ = ()
    pattern_hint = "write a range: field >= 1024"

    def equals(self, operand: Operand) -> Predicate:
        return Equal(self._bound(operand.text))

    def compares(self, operator: Operator, operand: Operand) -> Predicate:
        return ordered(operator, self._bound(operand.text))

    def _literal(self, text: str) -> Decimal:
        number = _decimal(text)
        if number is None:
            raise ValueRefused(f"`{text}` is not a number")
        return number

    @abstractmethod
    def _bound(self, text: str) -> int | float | Decimal:
        """Return a literal in a form that compares exactly with indexed values."""


@dataclass(frozen=True, slots=True)
class IntegerType(_NumberType):
    """long, integer, short, byte, unsigned_long.

    Texts are parsed, and fractions in a document are truncated, as by Elasticsearch's `coerce`; a
    value of an unsigned_long with a fraction is not indexed. Nor is anything out of range.
    """

    name: str
    lowest: int
    highest: int
    cuts_fractions: bool = True

    def index(self, raw: Any) -> int | None:
        number = self._whole(raw)
        if number is None or not self.lowest <= number <= self.highest:
            return None
        return number

    def _whole(self, raw: Any) -> int | None:
        if isinstance(raw, bool):
            return None
        if isinstance(raw, int):
            return raw
        number = _decimal(raw) if isinstance(raw, str) else None
        if isinstance(raw, float) and math.isfinite(raw):
            number = Decimal(raw)
        # The size is checked first, because int(Decimal("1e99999")) would take long.
        if number is None or number.copy_abs() > 2**64:
            return None
        whole = int(number)
        return whole if self.cuts_fractions or whole == number else None

    def _bound(self, text: str) -> int | float | Decimal:
        number = self._literal(text)
        if number.copy_abs() > 2**65:
            return math.copysign(math.inf, number)
        return int(number) if number == int(number) else number


@dataclass(frozen=True, slots=True)
class FloatType(_NumberType):
    """double, float, half_float, scaled_float.

    Attributes:
        pack: the struct format of the stored width; None for double.
        scaling_factor: for scaled_float: values are stored as integer multiples of its inverse.
    """

    name: str
    pack: str | None = None
    scaling_factor: float | None = None

    def index(self, raw: Any) -> float | None:
        number = _float(raw)
        return None if number is None else self._stored(number)

    def term(self, raw: Any) -> Term | None:
        number = self.index(raw)
        if number is None:
            return None
        return int(number) if number.is_integer() else number

    def _bound(self, text: str) -> float:
        number = float(self._literal(text))
        stored = self._stored(number)
        # Too large for the type, but it still has a place in the order.
        return math.copysign(math.inf, number) if stored is None else stored

    def _stored(self, number: float) -> float | None:
        """Return the number at the precision of the field, or None if it is out of range."""
        try:
            if self.scaling_factor is not None:
                number = round(number * self.scaling_factor) / self.scaling_factor
            elif self.pack is not None:
                (number,) = struct.unpack(self.pack, struct.pack(self.pack, number))
        except (OverflowError, ValueError):
            return None
        return number if math.isfinite(number) else None


def _float(raw: Any) -> float | None:
    if isinstance(raw, bool):
        return None
    if isinstance(raw, str):
        number = _decimal(raw)
        return None if number is None else float(number)
    if isinstance(raw, int | float):
        try:
            return float(raw)
        except OverflowError:
            return None
    return None
