"""Exceptions: events of which a rule raises no alert, in files of their own.

An exception narrows a rule without changing the file of the rule, which may be somebody else's, and
without beginning a new history, as another query would. An event that it covers is treated as if
the query did not match it: it raises no alert, and teaches the rule nothing. So a term that only
such events have is new to the rule when another event brings it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pipeline.errors import QueryError, QueryLimitError
from pipeline.kql import FieldTable, compile_node, field_names, parse
from pipeline.kql.nodes import LONE_STAR, MATCH_ALL, And, Is, Node, Not, Or
from pipeline.rules.filter_clauses import UnsupportedFilterError
from pipeline.rules.filters import compile_filters
from pipeline.rules.issues import Issue
from pipeline.rules.locate import Place
from pipeline.rules.model import ExceptionItem, Rule
from pipeline.rules.schema import shown, suggestion
from pipeline.types import Event

_EVERYTHING = (MATCH_ALL, Is(None, LONE_STAR))


def with_exceptions(rules: Iterable[Rule], items: Iterable[ExceptionItem]) -> tuple[Rule, ...]:
    """Return the rules, each with the exceptions to it."""
    by_rule: defaultdict[str, list[ExceptionItem]] = defaultdict(list)
    for item in items:
        for rule_id in item.rule_ids:
            by_rule[rule_id].append(item)
    return tuple(
        replace(rule, exceptions=tuple(by_rule[rule.rule_id])) if rule.rule_id in by_rule else rule
        for rule in rules
    )


def unknown_rules(items: Iterable[ExceptionItem], known: Collection[str]) -> Iterator[Issue]:
    """Return an issue for each id in an exception that is not the id of a known rule."""
    for item in items:
        for rule_id in item.rule_ids:
            if rule_id not in known:
                yield Issue(
                    "unknown_rule",
                    "warning",
                    f"exception {item.name!r}: no rule with the id {rule_id} is loaded",
                    item.path,
                    _line(item, "rules"),
                    hint=suggestion(rule_id, known),
                )


def missing_lists(rules: Iterable[Rule]) -> Iterator[Issue]:
    """Return an issue for each exception list that a rule names, and that no file holds."""
    for rule in rules:
        read = {item.list_id for item in rule.exceptions}
        for entry in rule.extra.get("exceptions_list", ()):
            list_id = entry.get("list_id") if isinstance(entry, Mapping) else None
            if list_id is None or list_id not in read:
                yield Issue(
                    "not_applied",
                    "warning",
                    "rule.exceptions_list is kept, not applied: the list"
                    f" {shown(list_id or entry)} is in no file, so what it excepts raises alerts",
                    rule.path,
                    None if rule.source is None else rule.source.line(("rule", "exceptions_list")),
                    rule.rule_id,
                    "export it to a file among the rules",
                )


class Narrowed(NamedTuple):
    """What a rule requires of an event, without the events that its exceptions cover.

    Attributes:
        node: the query, and not the exceptions with a query.
        filters: the filters, and those that exclude what the other exceptions cover.
        used: the exceptions that are in it.
        issues: what there is to report about the exceptions. They do not name the rule, since
            several rules may have the same exception.
    """

    node: Node
    filters: tuple[Mapping[str, Any], ...]
    used: tuple[ExceptionItem, ...]
    issues: tuple[Issue, ...]


def narrow(node: Node, rule: Rule, fields: FieldTable) -> Narrowed:
    """Return the query and the filters of a rule without the events that its exceptions cover.

    An exception with an error is left out: too many alerts are better than a rule that does not
    run.
    """
    issues: list[Issue] = []
    sound = [item for item in rule.exceptions if _is_sound(item, fields, issues)]

    def is_too_large(last: int) -> bool:
        narrowed = _narrowed(node, rule.filters, sound[: last + 1])
        try:
            compile_node(narrowed.node, fields)
            compile_filters(narrowed.filters, fields)
        except (QueryLimitError, UnsupportedFilterError):
            return True
        return False

    fitting = bisect_left(range(len(sound)), True, key=is_too_large)
    if fitting < len(sound):
        issues.append(_too_large(sound[fitting], len(sound) - fitting - 1))
    return _narrowed(node, rule.filters, sound[:fitting])._replace(issues=tuple(issues))


def _narrowed(
    node: Node, filters: Sequence[Mapping[str, Any]], items: Sequence[ExceptionItem]
) -> Narrowed:
    excluded = [{"meta": {"negate": True}, "query": each.filter} for each in items if each.filter]
    excepted = [parse(item.query) for item in items if item.query is not None]
    if excepted:
        # A query's `and` and an `or` of exceptions, each flat: the compiler joins tests of a field.
        children = node.children if isinstance(node, And) else (node,)
        either = excepted[0] if len(excepted) == 1 else Or(tuple(excepted))
        node = And((*children, Not(either)))
    return Narrowed(node, (*filters, *excluded), tuple(items), ())


def covers(item: ExceptionItem, event: Event, fields: FieldTable) -> bool:
    """Whether a sound exception covers an event."""
    if item.query is not None:
        return compile_node(parse(item.query), fields)(event)
    matcher = compile_filters([{"query": item.filter}], fields)
    return matcher is not None and matcher(event)


def _is_sound(item: ExceptionItem, fields: FieldTable, issues: list[Issue]) -> bool:
    """Whether an exception can be used; what there is to report about it is added to `issues`."""
    if item.query is None:
        return _is_sound_filter(item, fields, issues)
    try:
        node = parse(item.query)
        compile_node(node, fields, text=item.query)
    except QueryError as error:
        issues.append(_query_issue(item, error))
        return False
    if node in _EVERYTHING:
        issues.append(_excepts_all(item))
        return False
    for name in sorted(field_names(node)):
        if "*" not in name and fields.get(name) is None:
            line = _line_in_query(item, max(0, item.query.find(name)))
            issues.append(_unmapped(item, name, line, fields))
    return True


def _is_sound_filter(item: ExceptionItem, fields: FieldTable, issues: list[Issue]) -> bool:
    unmapped: dict[str, Place] = {}
    try:
        compile_filters([{"query": item.filter}], fields, unmapped=unmapped)
    except UnsupportedFilterError as error:
        text = f"exception {item.name!r}: {error.message}"
        line = _line_of_entry(item, error.place)
        issues.append(Issue("unsupported_exception", "error", text, item.path, line))
        return False
    issues.extend(
        _unmapped(item, name, _line_of_entry(item, place), fields)
        for name, place in unmapped.items()
    )
    return True


def _too_large(item: ExceptionItem, more: int) -> Issue:
    others = f" and the {more} after it are" if more else " is"
    return Issue(
        "query_limit",
        "error",
        f"exception {item.name!r}: with it, a rule requires too much: it{others} left out",
        item.path,
        _line(item, "name"),
    )


def _query_issue(item: ExceptionItem, error: QueryError) -> Issue:
    message = str(error).removesuffix(f"\nhint: {error.hint}")
    line = _line_in_query(item, error.span.start)
    text = f"exception {item.name!r}: {message}"
    return Issue(error.code, "error", text, item.path, line, hint=error.hint)


def _excepts_all(item: ExceptionItem) -> Issue:
    return Issue(
        "excepts_all",
        "error",
        f"exception {item.name!r}: every event satisfies it, so no rule would ever alert",
        item.path,
        _line(item, "query"),
        hint="to switch a rule off, write enabled = false in its file",
    )


def _unmapped(item: ExceptionItem, name: str, line: int | None, fields: FieldTable) -> Issue:
    near = fields.suggest(name)
    return Issue(
        "unmapped_field",
        "warning",
        f"exception {item.name!r}: field {name} is not mapped: no event satisfies a clause on it",
        item.path,
        line,
        hint=f"did you mean {near}?" if near else "add its type with rules.fields",
    )


def _line(item: ExceptionItem, *keys: str | int) -> int | None:
    return None if item.source is None else item.source.line((*item.place, *keys))


def _line_in_query(item: ExceptionItem, offset: int) -> int | None:
    if item.source is None or item.query is None:
        return None
    first = item.source.value_line((*item.place, "query"))
    return first + item.query.count("\n", 0, offset)


def _line_of_entry(item: ExceptionItem, place: Place) -> int | None:
    """Return the line of the entry that a place in its filter, ``(0, "query", …)``, stems from."""
    return _line(item, "entries", *place[4:5])
