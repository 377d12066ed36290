"""Field types: what Elasticsearch's mapping is to a search, the field table is to a query.

The built-in table is ECS 9.5 with Elastic Defend's library data stream laid over it. A table is
made of entries ``name -> type`` or ``name -> {"type": ..., "multi_fields": {...}, ...}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, TypeAlias

from pipeline.errors import FieldTypesError, UnmappedFieldError
from pipeline.kql.fields import Read, as_dict, as_list, leaf_reader, scalar_reader
from pipeline.kql.nodes import Wildcard
from pipeline.kql.patterns import compile_pattern
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
from pipeline.types import Event, Term

Entry: TypeAlias = str | Mapping[str, Any]

IGNORE_ABOVE = 1024
"""What ECS and the integrations set on keyword fields; Elasticsearch's own default is no limit."""

_TYPES: dict[str, ValueType] = {
    "boolean": BooleanType(),
    "byte": IntegerType("byte", -(2**7), 2**7 - 1),
    "constant_keyword": KeywordType("constant_keyword"),
    "date": DateType(),
    "date_nanos": DateType("date_nanos"),
    "double": FloatType("double"),
    "flattened": KeywordType("flattened"),
    "float": FloatType("float", pack="<f"),
    "half_float": FloatType("half_float", pack="<e"),
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
        keyed: True for a single path below a flattened field.
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
        """True for `object` and `nested`, which have fields instead of values."""
        return self.type in _CONTAINERS

    @property
    def values(self) -> ValueType:
        """How its values are indexed and compared."""
        return _value_type(self.type, self.caseless, self.ignore_above, self.scaling_factor)

    def reader(self, within: str | None = None) -> Read:
        """A reader of its raw values.

        Args:
            within: the nested path whose objects are read instead of whole events.
        """
        path = self.source if within is None else self.source[len(within) + 1 :]
        if (self.type == "flattened" and not self.keyed) or self.type in _UNSUPPORTED:
            return leaf_reader(path)
        return scalar_reader(path)


@lru_cache(maxsize=1024)
def _value_type(
    name: str, caseless: bool, ignore_above: int | None, scaling_factor: float | None
) -> ValueType:
    values = _TYPES.get(name)
    if values is None:
        return UnsupportedType(name)
    if isinstance(values, KeywordType) and (caseless or ignore_above is not None):
        limit = values.ignore_above if ignore_above is None else ignore_above
        return replace(values, caseless=caseless, ignore_above=limit)
    if isinstance(values, FloatType) and scaling_factor is not None:
        return replace(values, scaling_factor=scaling_factor)
    return values


@dataclass(frozen=True, slots=True, eq=False)
class FieldTable:
    """An immutable table of fields, multi-fields included."""

    _fields: Mapping[str, FieldType]
    _objects: frozenset[str]
    _views: Mapping[str, tuple[FieldType, ...]] = field(repr=False)

    @staticmethod
    def builtin() -> FieldTable:
        """ECS 9.5 and Elastic Defend's library events; loaded once."""
        return _builtin()

    @staticmethod
    def from_mapping(mapping: Mapping[str, Entry]) -> FieldTable:
        """A table with exactly these fields.

        Raises:
            FieldTypesError: an unknown type or option.
        """
        return _build({}, mapping)

    def extend(self, mapping: Mapping[str, Entry]) -> FieldTable:
        """A table with these fields laid over this one's.

        Raises:
            FieldTypesError: an unknown type or option.
        """
        return _build(self._fields, mapping)

    def get(self, name: str) -> FieldType | None:
        """The field of this name (also a multi-field, an object, a path in a flattened field)."""
        found = self._fields.get(name)
        if found is not None:
            return found
        if name in self._objects:
            return FieldType(name, "object", name, self._nested_above(name))
        return self._dynamic(name)

    def expand(self, pattern: Wildcard) -> tuple[FieldType, ...]:
        """All fields with values whose full name matches; a star crosses dots."""
        matches = compile_pattern(pattern.parts)
        return tuple(f for n, f in self._fields.items() if not f.is_container and matches(n))

    def names(self) -> Iterator[str]:
        """The names of all fields, multi-fields included."""
        return iter(self._fields)

    def suggest(self, name: str) -> str | None:
        """A known name that an unknown one may have meant."""
        close = get_close_matches(name, self._fields, n=1, cutoff=0.8)
        return close[0] if close else None

    def views(self, path: str) -> tuple[FieldType, ...]:
        """The fields that index what stands at a path of an event: itself and its multi-fields."""
        found = self._views.get(path)
        if found is not None:
            return found
        dynamic = self._dynamic(path)
        return () if dynamic is None else (dynamic,)

    def has_below(self, path: str) -> bool:
        """Whether fields may be indexed below a path."""
        if path in self._objects:
            return True
        found = self._fields.get(path)
        if found is None:
            return self._dynamic(path) is not None
        return found.is_container or found.type == "flattened"

    def value_types(self) -> frozenset[ValueType]:
        """Every way of indexing that occurs in the table."""
        own = {f.values for f in self._fields.values() if not f.is_container}
        dynamic = {_TYPES[f.object_type] for f in self._fields.values() if f.object_type}
        return frozenset(own | dynamic)

    def values(self, name: str) -> Callable[[Event], tuple[Any, ...]]:
        """A reader of a field's raw JSON values, in order of occurrence.

        Raises:
            UnmappedFieldError: the field is not in the table, or is an object.
        """
        read = self._with_values(name).reader()
        return lambda event: tuple(as_list(read(as_dict(event))))

    def terms(self, name: str) -> Callable[[Event], tuple[Term, ...]]:
        """A reader of a field's distinct indexed values, in order of first occurrence.

        Terms are what an aggregation of Elasticsearch would report: keyword text (JSON true is
        "true"), lower-cased under a lowercase normaliser, canonical addresses, whole numbers as
        int, epoch milliseconds. What is not indexed (null, too long, malformed) has no term.

        Raises:
            UnmappedFieldError: the field is not in the table, or its type has no terms.
        """
        found = self._with_values(name)
        if found.nested is not None:
            raise UnmappedFieldError(f"`{name}` is inside nested objects and has no terms")
        if isinstance(found.values, TextType | UnsupportedType):
            raise UnmappedFieldError(f"`{name}` is of type {found.type}, which has no terms")
        read, term = found.reader(), found.values.term

        def terms(event: Event) -> tuple[Term, ...]:
            raw = read(as_dict(event))
            if type(raw) is not list:
                one = None if raw is None else term(raw)
                return () if one is None else (one,)
            several = (term(value) for value in raw)
            return tuple(dict.fromkeys(value for value in several if value is not None))

        return terms

    def _with_values(self, name: str) -> FieldType:
        found = self.get(name)
        if found is None:
            hint = self.suggest(name)
            question = f"; did you mean `{hint}`?" if hint else ""
            raise UnmappedFieldError(f"`{name}` is not in the field table{question}")
        if found.is_container:
            raise UnmappedFieldError(f"`{name}` is an object: it has fields, not values")
        return found

    def _dynamic(self, name: str) -> FieldType | None:
        """A path below a flattened field, or below an object that maps whatever comes."""
        for above in _above(name):
            found = self._fields.get(above)
            if found is None:
                continue
            if found.type == "flattened":
                return replace(found, name=name, source=name, keyed=True)
            if found.object_type is not None:
                return FieldType(name, found.object_type, name, found.nested)
        return None

    def _nested_above(self, name: str) -> str | None:
        return _nested_above(name, self._fields)


def _above(name: str) -> Iterator[str]:
    """The paths above a dotted name, the closest first."""
    end = name.rfind(".")
    while end > 0:
        yield name[:end]
        end = name.rfind(".", 0, end)


@cache
def _builtin() -> FieldTable:
    data = files("pipeline.kql").joinpath("field_types.json").read_bytes()
    return FieldTable.from_mapping(json.loads(data))


def _build(base: Mapping[str, FieldType], mapping: Mapping[str, Entry]) -> FieldTable:
    fields = dict(base)
    for name, entry in mapping.items():
        # A field that is given anew loses the multi-fields it had.
        stale = [n for n, f in base.items() if f.source == name and n != name]
        for old in stale:
            fields.pop(old, None)
        fields.update({f.name: f for f in _entry(name, entry)})
    resolved = {name: _resolved(f, fields) for name, f in fields.items()}
    objects = {above for f in resolved.values() for above in _above(f.source)}
    views: dict[str, tuple[FieldType, ...]] = {}
    for found in resolved.values():
        if not found.is_container:
            views[found.source] = (*views.get(found.source, ()), found)
    return FieldTable(resolved, frozenset(objects - set(views)), views)


def _resolved(found: FieldType, fields: Mapping[str, FieldType]) -> FieldType:
    """Set what depends on the other fields: the nested path and a multi-field's source."""
    parent = fields.get(found.name.rpartition(".")[0])
    source = found.source
    # A field with values cannot have fields below it, so what is named below it is a view of it.
    if parent is not None and not parent.is_container and parent.type != "flattened":
        source = parent.source
    return replace(found, source=source, nested=_nested_above(source, fields))


def _nested_above(name: str, fields: Mapping[str, FieldType]) -> str | None:
    for above in _above(name):
        found = fields.get(above)
        if found is not None and found.type == "nested":
            return above
    return None


def _entry(name: str, entry: Any) -> Iterator[FieldType]:
    # A mapping comes from a person's file: it can hold anything.
    options: Any = {"type": entry} if isinstance(entry, str) else entry
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
        ignore_above=_positive(name, options, "ignore_above"),
        scaling_factor=_positive(name, options, "scaling_factor"),
        object_type=_object_type(name, options),
    )
    multi_fields = options.get("multi_fields", {})
    if not isinstance(multi_fields, Mapping):
        raise FieldTypesError(f"field `{name}`: `multi_fields` must be a table")
    for suffix, view in multi_fields.items():
        for found in _entry(f"{name}.{suffix}", view):
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


def _positive(name: str, options: Mapping[str, Any], option: str) -> Any:
    value = options.get(option)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise FieldTypesError(f"field `{name}`: `{option}` must be a positive number")
    return value


def _object_type(name: str, options: Mapping[str, Any]) -> str | None:
    kind = options.get("object_type")
    if kind is None:
        return None
    if not isinstance(kind, str) or kind not in _TYPES or options["type"] != "object":
        raise FieldTypesError(f"field `{name}`: `object_type` is the type of an object's values")
    return kind
