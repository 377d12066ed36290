"""The field table: what a mapping is to a search in Elasticsearch, it is to a query here.

The built-in table is ECS 9.5, overlaid with Elastic Defend's library data stream. A table is made
of entries ``name -> type`` or ``name -> {"type": ..., "multi_fields": {...}, ...}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from pipeline.errors import UnmappedFieldError
from pipeline.kql.field_type import Entry, FieldType, is_too_deep, read_entry
from pipeline.kql.fields import as_dict, as_list
from pipeline.kql.memo import Memo
from pipeline.kql.nodes import Wildcard
from pipeline.kql.patterns import compile_pattern
from pipeline.kql.values import TextType, UnsupportedType, ValueType
from pipeline.types import Event, Term


class ReadTerms(Protocol):
    """Reads the distinct terms of a field; with a memo, those of an array are read only once."""

    def __call__(self, event: Event, memo: Memo | None = None, /) -> tuple[Term, ...]: ...


@dataclass(frozen=True, slots=True, eq=False)
class FieldTable:
    """An immutable table of fields, including multi-fields."""

    _fields: Mapping[str, FieldType]
    _objects: frozenset[str]
    _views: Mapping[str, tuple[FieldType, ...]] = field(repr=False)
    value_types: frozenset[ValueType] = field(repr=False)
    """Every way of indexing values in the table."""
    type_numbers: Mapping[ValueType, int] = field(init=False, repr=False)
    """A number for each of the `value_types`."""

    def __post_init__(self) -> None:
        numbers = {value_type: number for number, value_type in enumerate(self.value_types)}
        object.__setattr__(self, "type_numbers", numbers)

    @staticmethod
    def builtin() -> FieldTable:
        """Return the table of ECS 9.5 and Elastic Defend; it is loaded once."""
        return _builtin()

    @staticmethod
    def from_mapping(mapping: Mapping[str, Entry]) -> FieldTable:
        """Return a table with exactly these fields.

        Raises:
            FieldTypesError: an unknown type or option.
        """
        return _build({}, mapping)

    def extend(self, mapping: Mapping[str, Entry]) -> FieldTable:
        """Return a table with these fields laid over the ones of this table.

        Raises:
            FieldTypesError: an unknown type or option.
        """
        return _build(self._fields, mapping)

    def get(self, name: str) -> FieldType | None:
        """Return the field with this name, if it is mapped.

        It may be a multi-field, an object or a path in a flattened field.
        """
        found = self._fields.get(name)
        if found is not None:
            return found
        if name in self._objects:
            return FieldType(name, "object", name, _nested_above(name, self._fields))
        return self._dynamic(name)

    def expand(self, pattern: Wildcard) -> tuple[FieldType, ...]:
        """Return all fields with values whose full name matches; a star also matches dots."""
        matches = compile_pattern(pattern.parts)
        return tuple(f for n, f in self._fields.items() if not f.is_container and matches(n))

    def names(self) -> Iterator[str]:
        """Return the names of all fields, including multi-fields."""
        return iter(self._fields)

    def suggest(self, name: str) -> str | None:
        """Return the known name that an unknown one was probably meant to be, if any."""
        close = get_close_matches(name, self._fields, n=1, cutoff=0.8)
        return close[0] if close else None

    def views(self, path: str) -> tuple[FieldType, ...]:
        """Return the fields that index what is at a path: the field itself and its multi-fields."""
        found = self._views.get(path)
        if found is not None:
            return found
        dynamic = self._dynamic(path)
        return () if dynamic is None else (dynamic,)

    def has_below(self, path: str) -> bool:
        """Whether there may be indexed fields below a path."""
        if path in self._objects:
            return True
        found = self._fields.get(path)
        if found is None:
            return self._dynamic(path) is not None
        return found.is_container or found.type == "flattened"

    def values(self, name: str) -> Callable[[Event], tuple[Any, ...]]:
        """Return a reader of a field's raw JSON values, in order of occurrence.

        Raises:
            UnmappedFieldError: the field is not in the table, or is an object.
        """
        read = self._with_values(name).reader()
        return lambda event: tuple(as_list(read(as_dict(event))))

    def terms(self, name: str) -> ReadTerms:
        """Return a reader of a field's distinct indexed values, in order of first occurrence.

        Terms are what an Elasticsearch aggregation would report: keywords as text (JSON true is
        "true"), in lower case under a lowercase normalizer; addresses in canonical form; whole
        numbers as int; dates as epoch milliseconds. What is not indexed (null, too long, malformed)
        has no term.

        Raises:
            UnmappedFieldError: the field is not in the table, is inside nested objects, or its type
                has no terms.
        """
        found = self._with_values(name)
        if found.nested is not None:
            raise UnmappedFieldError(f"`{name}` is inside nested objects and has no terms")
        if isinstance(found.value_type, TextType | UnsupportedType):
            raise UnmappedFieldError(f"`{name}` is of type {found.type}, which has no terms")
        read, term = found.reader(), found.value_type.term

        key = "terms", found

        def terms(event: Event, memo: Memo | None = None) -> tuple[Term, ...]:
            raw = read(as_dict(event), memo)
            if type(raw) is not list:
                one = None if raw is None else term(raw)
                return () if one is None else (one,)
            if memo is None:
                memo = Memo()
            several: tuple[Term, ...] | None = memo.get(key)
            if several is None:
                each = map(term, raw)
                distinct = dict.fromkeys(value for value in each if value is not None)
                several = memo[key] = tuple(distinct)
            return several

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
        """Return the field for a path below a flattened field or an object with a dynamic type."""
        if is_too_deep(name):
            return None
        for above in _above(name):
            found = self._fields.get(above)
            if found is None:
                continue
            if found.type == "flattened":
                return replace(found, name=name, source=name, keyed=True)
            if found.object_type is not None:
                return FieldType(name, found.object_type, name, found.nested)
        return None


def _above(name: str) -> Iterator[str]:
    """Yield the paths above a dotted name, the closest first."""
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
        # A field that is redefined loses its previous multi-fields.
        stale = [n for n, f in base.items() if f.source == name and n != name]
        for old in stale:
            fields.pop(old, None)
        fields.update({f.name: f for f in read_entry(name, entry)})
    resolved = {name: _resolved(f, fields) for name, f in fields.items()}
    objects = {above for f in resolved.values() for above in _above(f.source)}
    views: dict[str, tuple[FieldType, ...]] = {}
    for found in resolved.values():
        if not found.is_container:
            views[found.source] = (*views.get(found.source, ()), found)
    return FieldTable(resolved, frozenset(objects - set(views)), views, _value_types(resolved))


def _value_types(fields: Mapping[str, FieldType]) -> frozenset[ValueType]:
    own = {f.value_type for f in fields.values() if not f.is_container}
    dynamic = {
        FieldType("", f.object_type, "").value_type for f in fields.values() if f.object_type
    }
    return frozenset(own | dynamic)


def _resolved(found: FieldType, fields: Mapping[str, FieldType]) -> FieldType:
    """Set what depends on other fields: the nested path, and the source of a multi-field."""
    parent = fields.get(found.name.rpartition(".")[0])
    source = found.source
    # A field with values cannot have fields below it, so a name below it is a multi-field.
    if parent is not None and not parent.is_container and parent.type != "flattened":
        source = parent.source
    return replace(found, source=source, nested=_nested_above(source, fields))


def _nested_above(name: str, fields: Mapping[str, FieldType]) -> str | None:
    for above in _above(name):
        found = fields.get(above)
        if found is not None and found.type == "nested":
            return above
    return None
