"""Compiles one clause of Elasticsearch's query language, as Kibana's filters hold it, to a matcher.

Clauses that have an equivalent in KQL are compiled as KQL, so that both compare in the same way;
`wildcard` and `prefix` have their own patterns. Any other clause is refused by name, because a
filter that is silently left out turns an exclusion into alerts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import reduce
from itertools import islice
from typing import Any, NamedTuple

from pipeline.errors import FirstseenError, QueryError, UnmappedFieldError
from pipeline.kql import FieldTable, FieldType, Memo, MemoMatcher, compile_node
from pipeline.kql.fields import as_dict
from pipeline.kql.matching import Leaf, leaf_part
from pipeline.kql.nodes import LONE_STAR, And, Is, Literal, Nested, Node, Not, Operator, Or, Text
from pipeline.kql.predicates import Interval, Other, Predicate
from pipeline.kql.shared_patterns import SharedPatterns
from pipeline.kql.values import KeywordType, Operand, TextType, ValueRefused
from pipeline.kql.values.folding import words
from pipeline.rules.locate import Place
from pipeline.rules.schema import dotted, shown
from pipeline.rules.wildcard import WildcardRefused, compile_wildcard
from pipeline.types import Event

_RANGE_OPERATORS: dict[str, Operator] = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<"}
_DATE_FORMATS = ("strict_date_optional_time", "strict_date_optional_time||epoch_millis")
"""What Kibana writes beside the bounds of a date range: the formats in which dates are read
anyway."""
_MAX_DEPTH = 16
_WORD_NS = 20
"""Nanoseconds to compare a word with bounds, for each character of the text."""


class Context(NamedTuple):
    """What clauses are compiled against: the field types, and the patterns they share.

    `unmapped` collects the fields that have no type, each with its first place, or with one below
    `must_not` if there is any.
    """

    table: FieldTable
    patterns: SharedPatterns
    unmapped: dict[str, Place]


class UnsupportedFilterError(FirstseenError):
    """A filter that cannot be evaluated.

    Attributes:
        place: where the clause is in the rule's `filters`, e.g. ``(0, "query", "fuzzy")``.
        message: what is not supported.
    """

    code = "unsupported_filter"

    def __init__(self, place: Place, message: str) -> None:
        self.place = place
        self.message = message
        super().__init__(f"filters{dotted(place)}: {message}")


def compile_clause(clause: Any, place: Place, context: Context) -> MemoMatcher:
    """Return a matcher for a clause, which may hold others.

    Args:
        clause: the clause as TOML gives it.
        place: where it is in the rule's `filters`.
        context: what it is compiled against.

    Raises:
        UnsupportedFilterError: it cannot be evaluated, or a field's type refuses its value.
    """
    if not isinstance(clause, Mapping) or len(clause) != 1:
        raise UnsupportedFilterError(place, f"{shown(clause)} is not one query clause")
    if len(place) > _MAX_DEPTH * 2:
        raise UnsupportedFilterError(place, "clauses are nested too deep")
    ((name, body),) = clause.items()
    compiler = CLAUSES.get(name)
    if compiler is None:
        raise UnsupportedFilterError(
            (*place, name), f"the clause {shown(name)} is not one of {', '.join(sorted(CLAUSES))}"
        )
    return compiler(body, (*place, name), context)


def _compile_bool(body: Any, place: Place, context: Context) -> MemoMatcher:
    body = _checked(body, {"must", "filter", "must_not", "should", "minimum_should_match"}, place)
    required: list[MemoMatcher] = []
    for name in ("must", "filter"):
        required += _compile_list(body, name, place, context)
    should = _compile_list(body, "should", place, context)
    excluded = [negation_of(each) for each in _compile_list(body, "must_not", place, context)]
    least = body.get("minimum_should_match", 0)
    if type(least) is not int or least < 0:
        raise UnsupportedFilterError(
            (*place, "minimum_should_match"), f"{shown(least)} is no count of clauses"
        )
    # Without `must` and `filter`, at least one of `should` has to be true, even if the minimum says
    # 0 (Lucene's BooleanQuery).
    if should and not required:
        least = max(least, 1)
    # If nothing is there but `must_not`, the minimum is lost (fixNegativeQueryIfNeeded).
    if least and (required or should):
        required.append(_at_least(least, should))
    return all_of(required + excluded)


def _compile_list(
    body: Mapping[str, Any], name: str, place: Place, context: Context
) -> list[MemoMatcher]:
    clauses = body.get(name, [])
    if isinstance(clauses, Mapping):
        return [compile_clause(clauses, (*place, name), context)]
    if not isinstance(clauses, list | tuple):
        raise UnsupportedFilterError((*place, name), f"{shown(clauses)} is no list of clauses")
    return [
        compile_clause(clause, (*place, name, index), context)
        for index, clause in enumerate(clauses)
    ]


def _compile_match_all(body: Any, place: Place, _context: Context) -> MemoMatcher:
    _checked(body, set(), place)
    return lambda _event, _memo=None: True


def _compile_match_none(body: Any, place: Place, _context: Context) -> MemoMatcher:
    _checked(body, set(), place)
    return _never


def _compile_exists(body: Any, place: Place, context: Context) -> MemoMatcher:
    return _compile_node(Is(_name_in_exists(body, place, context), LONE_STAR), place, context)


def _name_in_exists(body: Any, place: Place, context: Context) -> str:
    name = _checked(body, {"field"}, place).get("field")
    if not isinstance(name, str):
        raise UnsupportedFilterError(place, f"{shown(name)} is no field name")
    if "*" in name:
        raise UnsupportedFilterError((*place, "field"), f"{shown(name)} names several fields")
    _note_if_unmapped(name, (*place, "field"), context)
    return name


def _compile_phrase(body: Any, place: Place, context: Context) -> MemoMatcher:
    name, spec = _field_of(body, {"query", "value"}, place, context)
    return _is(name, spec.get("query", spec.get("value")), place, context)


def _compile_match(body: Any, place: Place, context: Context) -> MemoMatcher:
    """Compile a match of type phrase, as Kibana 6 wrote its phrase filters."""
    name, spec = _field_of(body, {"query", "type"}, place, context)
    if spec.get("type") != "phrase":
        raise UnsupportedFilterError(place, "only a match of type phrase; use match_phrase")
    return _is(name, spec.get("query"), place, context)


def _compile_term(body: Any, place: Place, context: Context) -> MemoMatcher:
    name, spec = _field_of(body, {"value", "case_insensitive"}, place, context)
    value = spec.get("value")
    if spec.get("case_insensitive") is not True:
        _check_word(name, value, place, context)
        return _is(name, value, place, context)
    if not isinstance(value, str):
        raise UnsupportedFilterError(place, f"{shown(value)} has no case")
    return _pattern(name, _escaped(value), caseless=True, place=place, context=context)


def _compile_terms(body: Any, place: Place, context: Context) -> MemoMatcher:
    name, spec = _field_of(body, {"value"}, place, context)
    values = spec.get("value")
    if not isinstance(values, list | tuple) or not values:
        raise UnsupportedFilterError(place, f"{shown(values)} is no list of values")
    for value in values:
        _check_word(name, value, place, context)
    nodes = tuple(Is(name, _text(value, place)) for value in values)
    return _compile_node(nodes[0] if len(nodes) == 1 else Or(nodes), place, context)


def _compile_range(body: Any, place: Place, context: Context) -> MemoMatcher:
    name, spec = _field_of(body, {*_RANGE_OPERATORS, "format"}, place, context)
    field = context.table.get(name)
    if field is None:
        return _never
    if spec.get("format", _DATE_FORMATS[0]) not in _DATE_FORMATS:
        raise UnsupportedFilterError(
            (*place, "format"), f"the format {shown(spec['format'])}; dates are read as ISO 8601"
        )
    bounds = {name: value for name, value in spec.items() if name in _RANGE_OPERATORS}
    if not bounds:
        raise UnsupportedFilterError(place, "a range without a bound")
    if field.nested is not None:
        raise UnsupportedFilterError(
            place, f"`{name}` is inside nested objects, which a range does not look into"
        )
    try:
        context.table.values(name)  # refuses objects
        comparisons = [
            field.value_type.compares(_RANGE_OPERATORS[bound], Operand(_text(value, place).value))
            for bound, value in bounds.items()
        ]
    except (UnmappedFieldError, ValueRefused) as error:
        raise UnsupportedFilterError(place, str(error)) from error
    return _leaf(field, _meets_all(comparisons), context)


def _meets_all(comparisons: Sequence[Predicate]) -> Predicate:
    """Return a test that one value meets all comparisons; in KQL, each may be met by another."""
    intervals = [each for each in comparisons if isinstance(each, Interval)]
    if len(intervals) == len(comparisons):
        return reduce(Interval.within, intervals)
    if len(comparisons) == 1:
        return comparisons[0]
    # In a text, each bound may be met by a different word.
    return Other(
        lambda value: all(each.fits(value) for each in comparisons), cost_of_character=_WORD_NS
    )


def _leaf(field: FieldType, predicate: Predicate, context: Context) -> MemoMatcher:
    test = leaf_part(Leaf(field, predicates=(predicate,)), None, context.patterns).test
    return lambda event, memo=None: test(as_dict(event), Memo() if memo is None else memo)


def _compile_nested(body: Any, place: Place, context: Context) -> MemoMatcher:
    body = _checked(body, {"path", "query", "score_mode", "ignore_unmapped"}, place)
    path = body.get("path")
    if not isinstance(path, str):
        raise UnsupportedFilterError((*place, "path"), f"{shown(path)} is no path")
    if body.get("ignore_unmapped", False) is not False:
        raise UnsupportedFilterError((*place, "ignore_unmapped"), "only false is supported")
    inner = _node_inside(body.get("query"), path, (*place, "query"), context)
    return _compile_node(Nested(path, inner), place, context)


def _node_inside(clause: Any, path: str, place: Place, context: Context) -> Node:
    """Return the KQL of a clause on one object at a path, where KQL leaves the path out of names.

    Raises:
        UnsupportedFilterError: the clause is none of those that have such an equivalent.
    """
    if not isinstance(clause, Mapping) or len(clause) != 1 or len(place) > _MAX_DEPTH * 2:
        raise UnsupportedFilterError(place, f"{shown(clause)} is not one query clause")
    ((kind, body),) = clause.items()
    place = (*place, kind)
    if kind == "bool" and isinstance(body, Mapping) and len(body) == 1:
        ((joined, parts),) = body.items()
        below = parts if isinstance(parts, list | tuple) else (parts,)
        nodes = tuple(
            _node_inside(part, path, (*place, joined, number), context)
            for number, part in enumerate(below)
        )
        if nodes and joined in {"filter", "must"}:
            return nodes[0] if len(nodes) == 1 else And(nodes)
        if nodes and joined in {"should", "must_not"}:
            either = nodes[0] if len(nodes) == 1 else Or(nodes)
            return Not(either) if joined == "must_not" else either
    value: Literal
    if kind == "match_phrase":
        name, spec = _field_of(body, {"query", "value"}, place, context)
        value = _text(spec.get("query", spec.get("value")), place)
    elif kind == "exists":
        name, value = _name_in_exists(body, place, context), LONE_STAR
    else:
        raise UnsupportedFilterError(
            place, f"a clause {shown(kind)} of this form inside of `nested`"
        )
    if not name.startswith(f"{path}."):
        raise UnsupportedFilterError(place, f"{name} is not inside {path}")
    return Is(name.removeprefix(f"{path}."), value)


def _compile_wildcard(body: Any, place: Place, context: Context) -> MemoMatcher:
    name, spec = _field_of(body, {"value", "wildcard", "case_insensitive", "boost"}, place, context)
    pattern = spec.get("value", spec.get("wildcard"))
    if not isinstance(pattern, str):
        raise UnsupportedFilterError(place, f"{shown(pattern)} is no pattern")
    caseless = spec.get("case_insensitive") is True
    return _pattern(name, pattern, caseless=caseless, place=place, context=context)


def _compile_prefix(body: Any, place: Place, context: Context) -> MemoMatcher:
    name, spec = _field_of(body, {"value", "case_insensitive"}, place, context)
    prefix = spec.get("value")
    if not isinstance(prefix, str):
        raise UnsupportedFilterError(place, f"{shown(prefix)} is no prefix")
    caseless = spec.get("case_insensitive") is True
    return _pattern(name, _escaped(prefix) + "*", caseless=caseless, place=place, context=context)


_Compiler = Callable[[Any, Place, Context], MemoMatcher]
CLAUSES: dict[str, _Compiler] = {
    "bool": _compile_bool,
    "exists": _compile_exists,
    "match": _compile_match,
    "match_all": _compile_match_all,
    "match_none": _compile_match_none,
    "match_phrase": _compile_phrase,
    "nested": _compile_nested,
    "prefix": _compile_prefix,
    "range": _compile_range,
    "term": _compile_term,
    "terms": _compile_terms,
    "wildcard": _compile_wildcard,
}


PATTERN_CLAUSES = frozenset({"wildcard", "prefix"})
"""Those of `CLAUSES` that hold a pattern, which may cost more than a value."""


def _checked(body: Any, known: set[str], place: Place) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise UnsupportedFilterError(place, f"{shown(body)} is no table")
    for name in body:
        if name not in known:
            raise UnsupportedFilterError((*place, name), f"the parameter {shown(name)}")
    return body


def _field_of(
    body: Any, known: set[str], place: Place, context: Context
) -> tuple[str, Mapping[str, Any]]:
    """Return the field of a clause, and its parameters.

    For example ``{"process.name": {"value": "x"}}``. A lone value stands for ``{"value": …}`` or
    ``{"query": …}``. In TOML the quotes may be left out, which nests the name.
    """
    parts: list[str] = []
    while isinstance(body, Mapping) and not (parts and body.keys() <= known):
        name = ".".join(parts)
        field = context.table.get(name)
        is_whole = not any(context.table.get(f"{name}.{part}") for part in body)
        if field is not None and not field.is_container and is_whole:
            parameter = next((str(each) for each in body if each not in known), "")
            raise UnsupportedFilterError(place, f"the parameter {shown(parameter)} of {name}")
        if len(body) != 1:
            raise UnsupportedFilterError(place, f"{shown(dict(body))} is not one field")
        ((part, body),) = body.items()
        parts.append(str(part))
    if not parts:
        raise UnsupportedFilterError(place, f"{shown(body)} is no table")
    name = ".".join(parts)
    _note_if_unmapped(name, place, context)
    spec = body if isinstance(body, Mapping) else {"value": body, "query": body}
    return name, spec


def _note_if_unmapped(name: str, place: Place, context: Context) -> None:
    """Record the field if it has no type."""
    if context.table.get(name) is None and (name not in context.unmapped or "must_not" in place):
        context.unmapped[name] = place


def _check_word(name: str, value: Any, place: Place, context: Context) -> None:
    """Refuse a term on analysed text that is not a single word: it would never be found."""
    field = context.table.get(name)
    is_text = field is not None and isinstance(field.value_type, TextType)
    if is_text and isinstance(value, str) and words(value) != (value,):
        raise UnsupportedFilterError(
            place, f"{name} is split into words, and {shown(value)} is none: use match_phrase"
        )


def _is(name: str, value: Any, place: Place, context: Context) -> MemoMatcher:
    return _compile_node(Is(name, _text(value, place)), place, context)


def _text(value: Any, place: Place) -> Text:
    """Return a value as the literal that KQL compares with values of the field's type."""
    if isinstance(value, bool):
        return Text("true" if value else "false", quoted=True)
    if isinstance(value, date):
        return Text(value.isoformat(), quoted=True)
    if isinstance(value, str | int | float):
        return Text(str(value), quoted=True)
    raise UnsupportedFilterError(place, f"{shown(value)} is no single value")


def _escaped(text: str) -> str:
    """Return a pattern that matches only this text, with all special characters escaped."""
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")


def _compile_node(node: Node, place: Place, context: Context) -> MemoMatcher:
    try:
        return compile_node(node, context.table, patterns=context.patterns)
    except QueryError as error:
        raise UnsupportedFilterError(place, error.message) from error


def _pattern(
    name: str, pattern: str, *, caseless: bool, place: Place, context: Context
) -> MemoMatcher:
    field = context.table.get(name)
    if field is None:
        return _never
    if not isinstance(field.value_type, KeywordType):
        raise UnsupportedFilterError(place, f"{name} is of type {field.type}: no patterns there")
    try:
        predicate = compile_wildcard(field.value_type.normal(pattern), caseless=caseless)
        context.table.terms(name)  # refuses fields inside of nested objects
    except (UnmappedFieldError, WildcardRefused) as error:
        raise UnsupportedFilterError(place, str(error)) from error
    return _leaf(field, predicate, context)


def all_of(matchers: Sequence[MemoMatcher]) -> MemoMatcher:
    """Return a matcher for events that all of these match."""
    if len(matchers) == 1:
        return matchers[0]

    def all_hold(event: Event, memo: Memo | None = None) -> bool:
        memo = Memo() if memo is None else memo
        return all(matcher(event, memo) for matcher in matchers)

    return all_hold


def _at_least(count: int, matchers: Sequence[MemoMatcher]) -> MemoMatcher:

    def enough_hold(event: Event, memo: Memo | None = None) -> bool:
        memo = Memo() if memo is None else memo
        held = (True for matcher in matchers if matcher(event, memo))
        return sum(islice(held, count)) == count

    return enough_hold


def _never(_event: Event, _memo: Memo | None = None) -> bool:
    """The matcher of an unmapped field: such a field has no values in Elasticsearch."""
    return False


def negation_of(matcher: MemoMatcher) -> MemoMatcher:
    """Return a matcher for events that another does not match."""

    def negated(event: Event, memo: Memo | None = None) -> bool:
        return not matcher(event, memo)

    return negated
