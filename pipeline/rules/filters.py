"""Compiles the Kibana filters of a rule (``[[rule.filters]]``) to a matcher.

A filter is a clause (`pipeline.rules.filter_clauses`) with a `meta` table beside it. Kibana
combines the enabled filters and the query with *and* (kbn-es-query: ``buildQueryFromFilters``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.kql import FieldTable, MemoMatcher
from pipeline.kql.limits import MAX_CLAUSES, MAX_PATTERNS
from pipeline.kql.shared_patterns import SharedPatterns
from pipeline.rules.filter_clauses import (
    PATTERN_CLAUSES,
    Context,
    UnsupportedFilterError,
    all_of,
    compile_clause,
    negation_of,
)
from pipeline.rules.locate import Place
from pipeline.rules.schema import shown

_META_KEYS = frozenset({"meta", "$state"})


def compile_filters(
    filters: Sequence[Mapping[str, Any]],
    table: FieldTable,
    patterns: SharedPatterns | None = None,
    unmapped: dict[str, Place] | None = None,
) -> MemoMatcher | None:
    """Return a matcher for all enabled filters together; None if there are none.

    Args:
        filters: the filters of a rule.
        table: the field types.
        patterns: the patterns of the rules with which it shares memos.
        unmapped: receives the fields that have no type, each with its first place, or with one
            below `must_not` if there is any.

    Raises:
        UnsupportedFilterError: a filter cannot be evaluated, or a field's type refuses its value.
    """
    enabled = [
        (index, entry)
        for index, entry in enumerate(filters)
        if not _meta_flag(entry, "disabled", (index,))
    ]
    _check_size(enabled)
    context = Context(table, patterns or SharedPatterns(), {} if unmapped is None else unmapped)
    matchers = [_compile_filter(entry, (index,), context) for index, entry in enabled]
    return all_of(matchers) if matchers else None


def _check_size(filters: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    """Refuse filters with more values, or more patterns, than a query may have.

    Raises:
        UnsupportedFilterError: in the filter that exceeds the limit.
    """
    values = patterns = 0
    for index, entry in filters:
        waiting: list[Any] = [_clause(entry)]
        while waiting:
            part = waiting.pop()
            if isinstance(part, Mapping):
                patterns += sum(name in PATTERN_CLAUSES for name in part)
                waiting.extend(part.values())
            elif isinstance(part, list | tuple):
                waiting.extend(part)
            else:
                values += 1
        if values > MAX_CLAUSES or patterns > MAX_PATTERNS:
            raise UnsupportedFilterError(
                (index,),
                f"the filters hold more than {MAX_CLAUSES} values or {MAX_PATTERNS} patterns",
            )


def canonical_filters(filters: Sequence[Mapping[str, Any]]) -> str:
    """Return what the enabled filters require, as one text: equal requirements give equal texts.

    The names, owners and colours of a filter (`meta`, `$state`) are left out.
    """
    demands = [
        {"negate": bool(_meta(entry).get("negate")), "clause": _clause(entry)}
        for entry in filters
        if not _meta(entry).get("disabled")
    ]
    return json.dumps(demands, sort_keys=True, default=str)


def _meta(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = entry.get("meta")
    return meta if isinstance(meta, Mapping) else {}


def _meta_flag(entry: Mapping[str, Any], name: str, place: Place) -> bool:
    value = _meta(entry).get(name, False)
    if not isinstance(value, bool):
        raise UnsupportedFilterError((*place, "meta", name), f"{shown(value)} is no boolean")
    return value


def _clause(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the clause of a filter; old Kibana versions write it beside `meta`, not in `query`."""
    clause = entry.get("query")
    if isinstance(clause, Mapping):
        return clause
    return {name: value for name, value in entry.items() if name not in _META_KEYS}


def _compile_filter(entry: Mapping[str, Any], place: Place, context: Context) -> MemoMatcher:
    if _meta(entry).get("type") == "combined":
        # Kibana takes its parts from `meta`, whatever its `query` says.
        raise UnsupportedFilterError(
            (*place, "meta", "type"), "a combined filter; write its parts as one bool clause"
        )
    inside = (*place, "query") if "query" in entry else place
    matcher = compile_clause(_clause(entry), inside, context)
    return negation_of(matcher) if _meta_flag(entry, "negate", place) else matcher
