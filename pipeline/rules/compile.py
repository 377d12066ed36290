"""Compiles one rule, and reports what its author should know about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from pipeline.errors import QueryError, UnmappedFieldError
from pipeline.kql import (
    FieldTable,
    MemoMatcher,
    ReadTerms,
    SharedPatterns,
    compile_node,
    field_names,
    format_query,
    parse,
    required_clauses,
)
from pipeline.kql.needles import SHORTEST
from pipeline.kql.nodes import Node
from pipeline.rules.compiled import CompiledRule
from pipeline.rules.exceptions import CheckedExceptions, narrow
from pipeline.rules.filter_clauses import UnsupportedFilterError
from pipeline.rules.filters import canonical_filters, compile_filters
from pipeline.rules.index_patterns import compile_index_patterns
from pipeline.rules.issues import Issue, IssueSeverity
from pipeline.rules.locate import Place
from pipeline.rules.model import Rule, RuleType
from pipeline.rules.reads import paths_read

_NOT_JUDGED = {
    RuleType.EQL: "EQL is another language: no KQL to evaluate",
    RuleType.ESQL: "ES|QL is another language: no KQL to evaluate",
    RuleType.MACHINE_LEARNING: "asks a machine learning job of Elasticsearch",
    RuleType.SAVED_QUERY: "its query is stored in Kibana",
}
_NOT_RUN = {
    RuleType.THRESHOLD: "threshold rules count matches: `firstseen match` judges the query alone",
    RuleType.THREAT_MATCH: (
        "indicator match rules need an indicator index: `firstseen match` judges the query alone"
    ),
}
_LUCENE = "is written in Lucene syntax: only kuery is evaluated"


@dataclass(slots=True)
class CompileResult:
    """The result of compiling one rule.

    Attributes:
        compiled: the rule; None if it cannot be evaluated.
        reason: why it is not run; None if it is run, or if an issue of severity error says why not.
        issues: findings about it.
    """

    compiled: CompiledRule | None = None
    reason: str | None = None
    issues: list[Issue] = field(default_factory=list)


def compile_rule(
    rule: Rule,
    fields: FieldTable,
    patterns: SharedPatterns | None = None,
    checked: CheckedExceptions | None = None,
) -> CompileResult:
    """Compile a rule. Nothing that a rule contains makes this raise.

    Args:
        rule: the rule.
        fields: the field types.
        patterns: the patterns of the rules with which it shares memos.
        checked: the exceptions of the rules with which it shares them.
    """
    patterns = patterns or SharedPatterns()
    checked = checked or CheckedExceptions(fields)
    result = CompileResult(reason=_not_judged(rule))
    if result.reason is not None:
        return result
    # All three are looked at in any case, so that a mistake in one hides none in another.
    query = _query(rule, fields, patterns, result.issues)
    filters = _filters(rule, fields, patterns, result.issues)
    terms, findings = _terms(rule, fields)
    result.issues.extend(findings)
    if query is None or any(issue.severity == "error" for issue in result.issues):
        return result
    asked, matcher = query
    node, all_filters, exceptions, findings_in_exceptions = narrow(asked, rule, fields, checked)
    result.issues.extend(findings_in_exceptions)
    if exceptions:
        matcher = compile_node(node, fields, patterns=patterns)
        filters = compile_filters(all_filters, fields, patterns)
    clauses = required_clauses(node, fields)
    result.compiled = CompiledRule(
        rule=replace(rule, exceptions=exceptions),
        node=node,
        filters=all_filters,
        fields=fields,
        matcher=matcher if filters is None else _both(matcher, filters),
        terms=terms,
        query=format_query(node),
        history_id=_history_id(rule, format_query(asked)),
        clauses=clauses,
        includes_index=compile_index_patterns(rule.searched_index),
        shared_patterns=patterns,
    )
    # What is wrong with a new-terms field, if there is no error, is that it has no type.
    result.reason = findings[0].message if findings else _not_run(rule)
    if result.reason is None:
        if not clauses:
            result.issues.append(_no_literal(rule))
        if paths_read(result.compiled) is None:
            result.issues.append(_reads_any_field(rule))
    return result


def _query(
    rule: Rule, fields: FieldTable, patterns: SharedPatterns, issues: list[Issue]
) -> tuple[Node, MemoMatcher] | None:
    """Return the query, parsed and compiled; None if there is none, or it is wrong.

    What there is to report is added to `issues`.
    """
    if rule.query is None:
        return None
    try:
        node = parse(rule.query)
        matcher = compile_node(node, fields, text=rule.query, patterns=patterns)
    except QueryError as error:
        issues.append(_query_issue(rule, error))
        return None
    issues.extend(_unmapped(rule, node, fields))
    return node, matcher


def _filters(
    rule: Rule, fields: FieldTable, patterns: SharedPatterns, issues: list[Issue]
) -> MemoMatcher | None:
    """Return the filters as one matcher; None if there are none, or one is wrong.

    What there is to report is added to `issues`.
    """
    unmapped: dict[str, Place] = {}
    try:
        filters = compile_filters(rule.filters, fields, patterns, unmapped)
    except UnsupportedFilterError as error:
        place: Place = ("rule", "filters", *error.place)
        issues.append(_issue(rule, error.code, "error", _line(rule, place), error.message))
        return None
    issues.extend(_unmapped_in_filters(rule, unmapped, fields))
    return filters


def _not_judged(rule: Rule) -> str | None:
    if rule.type in _NOT_JUDGED:
        return _NOT_JUDGED[rule.type]
    return _LUCENE if rule.language == "lucene" else None


def _not_run(rule: Rule) -> str | None:
    if rule.type in _NOT_RUN:
        return _NOT_RUN[rule.type]
    return None if rule.enabled else "is not enabled (enabled = false)"


def _both(matcher: MemoMatcher, filters: MemoMatcher) -> MemoMatcher:
    return lambda event, memo=None: matcher(event, memo) and filters(event, memo)


def _terms(rule: Rule, fields: FieldTable) -> tuple[tuple[ReadTerms, ...], list[Issue]]:
    """Return the readers of the new-terms fields, and what is wrong with the fields.

    There are no readers if one of the fields is of no use. If it has no type, `firstseen match` can
    still evaluate the query; a type without terms is an error.
    """
    readers: list[ReadTerms] = []
    issues: list[Issue] = []
    for index, name in enumerate(rule.new_terms.fields if rule.new_terms is not None else ()):
        if fields.get(name) is None:
            issues.append(_unmapped_terms(rule, index, name, fields))
            continue
        try:
            readers.append(fields.terms(name))
        except UnmappedFieldError as error:
            message = f"{error}: such a rule can never alert"
            line = _line_of_field(rule, index)
            issues.append(_issue(rule, "new_terms_type", "error", line, message))
    return (() if issues else tuple(readers)), issues


def _unmapped_terms(rule: Rule, index: int, name: str, fields: FieldTable) -> Issue:
    return _issue(
        rule,
        "new_terms_unmapped",
        "warning",
        _line_of_field(rule, index),
        f"field {name} is not mapped: this rule can never alert; add its type with rules.fields",
        hint=_near(name, fields),
    )


def _line_of_field(rule: Rule, index: int) -> int | None:
    flat: Place = ("rule", "new_terms_fields", index)
    is_flat = rule.source is not None and rule.source.knows(flat)
    return _line(rule, flat if is_flat else ("rule", "new_terms", "value", index))


def _near(name: str, fields: FieldTable) -> str | None:
    near = fields.suggest(name)
    return f"did you mean {near}?" if near else None


def _unmapped(rule: Rule, node: Node, fields: FieldTable) -> Iterator[Issue]:
    for name in sorted(field_names(node)):
        if "*" not in name and fields.get(name) is None:
            line = _line_in_query(rule, max(0, (rule.query or "").find(name)))
            yield _unmapped_field(rule, name, line, fields)


def _unmapped_in_filters(
    rule: Rule, unmapped: Mapping[str, Place], fields: FieldTable
) -> Iterator[Issue]:
    for name, place in unmapped.items():
        yield _unmapped_field(rule, name, _line(rule, ("rule", "filters", *place)), fields)


def _unmapped_field(rule: Rule, name: str, line: int | None, fields: FieldTable) -> Issue:
    return _issue(
        rule,
        "unmapped_field",
        "warning",
        line,
        f"field {name} is not mapped: no event satisfies a clause on it",
        hint=_near(name, fields) or "add its type with rules.fields",
    )


def _no_literal(rule: Rule) -> Issue:
    return _issue(
        rule,
        "no_literal",
        "info",
        _line(rule, ("rule", "query")),
        f"no text of {SHORTEST} or more characters, quotes included, stands in every event that"
        " matches: with this rule loaded, every record of its topics has to be decoded",
        hint='demand a value of the event, as in dll.name:"ntdll.dll"',
    )


def _reads_any_field(rule: Rule) -> Issue:
    return _issue(
        rule,
        "reads_any_field",
        "info",
        _line(rule, ("rule", "query")),
        f"what the query{' or an exception' if rule.exceptions else ''} looks for may stand in any"
        " field: with this rule loaded, what all rules say of events that read alike is not"
        " remembered, and each of those is decoded",
        hint='name the field, as in process.name:"x"',
    )


def _issue(
    rule: Rule,
    code: str,
    severity: IssueSeverity,
    line: int | None,
    message: str,
    *,
    hint: str | None = None,
) -> Issue:
    return Issue(code, severity, message, rule.path, line, rule.rule_id or None, hint)


def _query_issue(rule: Rule, error: QueryError) -> Issue:
    """Return the issue of a query error: its line in the file, and a caret under the text."""
    line = _line_in_query(rule, error.span.start)
    message = str(error).removesuffix(f"\nhint: {error.hint}")
    return _issue(rule, error.code, "error", line, message, hint=error.hint)


def _line(rule: Rule, place: Place) -> int | None:
    return rule.source.line(place) if rule.source is not None else None


def _line_in_query(rule: Rule, offset: int) -> int | None:
    if rule.source is None or rule.query is None:
        return None
    return rule.source.value_line(("rule", "query")) + rule.query.count("\n", 0, offset)


def _history_id(rule: Rule, query: str) -> str:
    fields = rule.new_terms.fields if rule.new_terms is not None else ()
    identity = [
        rule.rule_id,
        query,
        canonical_filters(rule.filters),
        list(fields),
        rule.timestamp_override,
    ]
    return sha256(json.dumps(identity).encode()).hexdigest()[:16]
