"""Integers and floats. Comparison is by value, and exact."""

from __future__ import annotations

import math
import re
import struct
from abc import abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from pipeline.kql.nodes import Operator
from pipeline.kql.predicates import Equal, Predicate, comparison
from pipeline.kql.values.base import Operand, ValueRefused, ValueType
from pipeline.types import Term

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,5})?", re.ASCII)
_LONGEST = 100

SINGLE: Final = "<f"
HALF: Final = "<e"
"""The struct formats of float and half_float."""


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
        return comparison(operator, self._limit(operand.text))

    def _limit(self, text: str) -> int | float | Decimal:
        """Return a literal as the bound of a range."""
        return self._bound(text)

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
        if self.scaling_factor is not None:
            # A literal is scaled as a decimal; a value, as a double (ScaledFloatFieldMapper).
            scaled = Decimal(repr(number)) * Decimal(repr(self.scaling_factor))
            return _rounded(float(scaled)) / self.scaling_factor
        return _at_precision(number, self.pack)

    def _limit(self, text: str) -> float:
        # Values of these two types are compared with the literal itself, not with the nearest value
        # of the type.
        if self.scaling_factor is not None:
            return float(self._literal(text))
        if self.pack == HALF:
            return _at_precision(float(self._literal(text)), SINGLE)
        return self._bound(text)

    def _stored(self, number: float) -> float | None:
        """Return the number at the precision of the field, or None if it is out of range."""
        if self.scaling_factor is not None:
            number = _rounded(number * self.scaling_factor) / self.scaling_factor
        else:
            number = _at_precision(number, self.pack)
        return number if math.isfinite(number) else None


def _rounded(number: float) -> float:
    """Return the nearest integer; of two, the greater one (Java's Math.round).

    What has become infinite, as it is too large to be scaled, stays so.
    """
    if not math.isfinite(number):
        return number
    below = math.floor(number)
    return below + (number - below >= 0.5)


def _at_precision(number: float, pack: str | None) -> float:
    """Return the nearest number of a type.

    What is too large for the type becomes infinite, and so still has a place in the order.
    """
    if pack is None:
        return number
    try:
        (nearest,) = struct.unpack(pack, struct.pack(pack, number))
    except OverflowError:
        return math.copysign(math.inf, number)
    return float(nearest)


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
