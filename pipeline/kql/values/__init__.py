"""How values of each field type are indexed and compared; one module for each family of types."""

from __future__ import annotations

from pipeline.kql.predicates import Predicate
from pipeline.kql.values.base import Operand, ValueRefused, ValueType
from pipeline.kql.values.boolean import BooleanType
from pipeline.kql.values.date import DateType
from pipeline.kql.values.ip import IpType
from pipeline.kql.values.keyword import KeywordType
from pipeline.kql.values.number import FloatType, IntegerType
from pipeline.kql.values.text import TextType
from pipeline.kql.values.unsupported import UnsupportedType

__all__ = [
    "BooleanType",
    "DateType",
    "FloatType",
    "IntegerType",
    "IpType",
    "KeywordType",
    "Operand",
    "Predicate",
    "TextType",
    "UnsupportedType",
    "ValueRefused",
    "ValueType",
]
