"""The type of a field: Elasticsearch's types, their options, and how a table entry is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, TypeAlias

from pipeline.errors import FieldTypesError
from pipeline.kql.fields import Read, scalar_reader, subtree_reader
from pipeline.kql.values import (
    BooleanType,
    DateType,
    FloatType,
    IntegerType,
    IpType,
    KeywordType,
    TextType,
    UnsupportedType,
    ValueType,
)
from pipeline.kql.values.number import HALF, SINGLE

Entry: TypeAlias = str | Mapping[str, Any]

IGNORE_ABOVE = 1024
"""What ECS and the integrations set on keyword fields; Elasticsearch's own default is no limit."""

MAX_SEGMENTS = 64
"""Names with more segments than this are not mapped; Elasticsearch's own limit is 20."""
MAX_NAME = 1024
"""The maximum length of a mapped name. In an event with long keys at many levels, the full names of
its values would take many times the memory of the event."""

_TYPES: dict[str, ValueType] = {
    "boolean": BooleanType(),
    "byte": IntegerType("byte", -(2**7), 2**7 - 1),
    "constant_keyword": KeywordType("constant_keyword"),
    "date": DateType(),
    "date_nanos": DateType("date_nanos"),
    "double": FloatType("double"),
    "flattened": KeywordType("flattened"),
    "float": FloatType("float", pack=SINGLE),
    "half_float": FloatType("half_float", pack=HALF),
    "integer": IntegerType("integer", -(2**31), 2**31 - 1),
    "ip": IpType(),
    "keyword": KeywordType("keyword", ignore_above=IGNORE_ABOVE),
    "long": IntegerType("long", -(2**63), 2**63 - 1),
    "match_only_text": TextType("match_only_text"),
    "scaled_float": FloatType("scaled_float"),
    "short": IntegerType("short", -(2**15), 2**15 - 1),
    "text": TextType("text"),
    "unsigned_long": IntegerType("unsigned_long", 0, 2**64 - 1, cuts_fractions=False),
    "wildcard": KeywordType("wildcard"),
}
_CONTAINERS = frozenset({"object", "nested"})
_UNSUPPORTED = frozenset(
    {
        "aggregate_metric_double",
        "alias",
        "annotated_text",
        "binary",
        "completion",
        "counted_keyword",
        "date_range",
        "dense_vector",
        "double_range",
        "float_range",
        "geo_point",
        "geo_shape",
        "histogram",
        "integer_range",
        "ip_range",
        "join",
        "long_range",
        "murmur3",
        "passthrough",
        "percolator",
        "point",
        "rank_feature",
        "rank_features",
        "search_as_you_type",
        "semantic_text",
        "shape",
        "sparse_vector",
        "token_count",
        "version",
    }
)
_KNOWN = frozenset(_TYPES) | _CONTAINERS | _UNSUPPORTED
_OPTIONS = frozenset(
    {"type", "multi_fields", "normalizer", "ignore_above", "object_type", "scaling_factor"}
)


@dataclass(frozen=True, slots=True)
class FieldType:
    """One field of a table.

    Attributes:
        name: the full dotted name.
        type: the Elasticsearch type.
        source: the path of its values in an event; a multi-field reads its parent's.
        nested: the path of the closest `nested` object above it, if there is one.
        keyed: whether it is a single path below a flattened field.
        caseless: whether a keyword has the normalizer `lowercase`.
        ignore_above: the option of this name; None for the type's default.
        scaling_factor: the option of this name, for `scaled_float`.
        object_type: the type of the values below an object that maps any field.
    """

    name: str
    type: str
    source: str
    nested: str | None = None
    keyed: bool = False
    caseless: bool = False
    ignore_above: int | None = None
    scaling_factor: float | None = None
    object_type: str | None = None

    @property
    def is_container(self) -> bool:
        """Whether its type is `object` or `nested`, which have fields instead of values."""
        return self.type in _CONTAINERS

    @property
    def value_type(self) -> ValueType:
        """How its values are indexed and compared."""
        return _value_type(self.type, self.caseless, self.ignore_above, self.scaling_factor)

    def reader(self, within: str | None = None) -> Read:
        """Return a reader of its raw values.

        Args:
            within: the nested path whose objects are read instead of whole events.
        """
        path = self.source if within is None else self.source[len(within) + 1 :]
        if (self.type == "flattened" and not self.keyed) or self.type in _UNSUPPORTED:
            return subtree_reader(path)
        return scalar_reader(path)


@lru_cache(maxsize=1024)
def _value_type(
    name: str, caseless: bool, ignore_above: int | None, scaling_factor: float | None
) -> ValueType:
    value_type = _TYPES.get(name)
    if value_type is None:
        return UnsupportedType(name)
    if isinstance(value_type, KeywordType) and (caseless or ignore_above is not None):
        limit = value_type.ignore_above if ignore_above is None else ignore_above
        return replace(value_type, caseless=caseless, ignore_above=limit)
    if isinstance(value_type, FloatType) and scaling_factor is not None:
        return replace(value_type, scaling_factor=scaling_factor)
    return value_type


def read_entry(name: Any, entry: Any) -> Iterator[FieldType]:
    """Yield the field that an entry of a table describes, then its multi-fields.

    Raises:
        FieldTypesError: an unknown type or option.
    """
    # The mapping comes from a user's file, so it can contain anything.
    options: Any = {"type": entry} if isinstance(entry, str) else entry
    if not isinstance(name, str) or not name:
        raise FieldTypesError(f"{name!r} is no name of a field")
    if is_too_deep(name):
        most = f"{MAX_SEGMENTS} levels or {MAX_NAME} characters"
        raise FieldTypesError(f"field `{name[:50]}...`: more than {most}")
    if not isinstance(options, Mapping) or not isinstance(options.get("type"), str):
        raise FieldTypesError(f"field `{name}`: give a type, or a table with a `type`")
    unknown = [str(option) for option in options if option not in _OPTIONS]
    if unknown:
        raise FieldTypesError(f"field `{name}`: unknown option `{unknown[0]}`")
    yield FieldType(
        name,
        _known_type(name, options["type"]),
        name,
        caseless=_is_caseless(name, options),
        ignore_above=_positive(name, options, "ignore_above", whole=True),
        scaling_factor=_positive(name, options, "scaling_factor"),
        object_type=_object_type(name, options),
    )
    multi_fields = options.get("multi_fields", {})
    if not isinstance(multi_fields, Mapping):
        raise FieldTypesError(f"field `{name}`: `multi_fields` must be a table")
    for suffix, view in multi_fields.items():
        for found in read_entry(f"{name}.{suffix}", view):
            yield replace(found, source=name)


def _known_type(name: str, kind: str) -> str:
    if kind not in _KNOWN:
        close = get_close_matches(kind, _KNOWN, n=1)
        question = f"; did you mean `{close[0]}`?" if close else ""
        raise FieldTypesError(f"field `{name}`: unknown type `{kind}`{question}")
    return kind


def _is_caseless(name: str, options: Mapping[str, Any]) -> bool:
    normalizer = options.get("normalizer")
    if normalizer is not None and normalizer != "lowercase":
        raise FieldTypesError(f"field `{name}`: only the normalizer `lowercase` is known")
    if normalizer is not None and options["type"] != "keyword":
        raise FieldTypesError(f"field `{name}`: only a keyword has a normalizer")
    return normalizer is not None


def _positive(name: str, options: Mapping[str, Any], option: str, *, whole: bool = False) -> Any:
    value = options.get(option)
    if value is None:
        return None
    kinds = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or value <= 0:
        number = "whole number" if whole else "number"
        raise FieldTypesError(f"field `{name}`: `{option}` must be a {number} above 0")
    return value


def _object_type(name: str, options: Mapping[str, Any]) -> str | None:
    kind = options.get("object_type")
    if kind is None:
        return None
    if not isinstance(kind, str) or kind not in _TYPES or options["type"] != "object":
        raise FieldTypesError(f"field `{name}`: `object_type` is the type of an object's values")
    return kind


def is_too_deep(name: str) -> bool:
    """Whether a name has more segments, or more characters, than a mapped field may have."""
    return len(name) > MAX_NAME or name.count(".") >= MAX_SEGMENTS
