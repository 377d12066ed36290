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
from functools import lru_cache
from typing import Any, NamedTuple

from pipeline.errors import QueryError, QueryLimitError
from pipeline.kql import FieldTable, compile_node, field_names, negated_field_names, parse
from pipeline.kql.nodes import LONE_STAR, MATCH_ALL, And, Is, Node, Not, Or, Wildcard
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


class _Checked(NamedTuple):
    """An exception, and what was found about it.

    Attributes:
        node: its query, parsed; None if it has a filter, or a query that is wrong.
        issues: what there is to report about it.
    """

    item: ExceptionItem
    node: Node | None
    issues: tuple[Issue, ...]

    @property
    def is_sound(self) -> bool:
        return not any(issue.severity == "error" for issue in self.issues)


class CheckedExceptions:
    """Checks each exception once, however many rules it applies to.

    Args:
        fields: the field types.
    """

    def __init__(self, fields: FieldTable) -> None:
        self._fields = fields
        # An item is kept with the result, so that no other one can get its id.
        self._by_id: dict[int, _Checked] = {}

    def of(self, item: ExceptionItem) -> _Checked:
        """Return what was found about an exception."""
        found = self._by_id.get(id(item))
        if found is None:
            found = self._by_id[id(item)] = _checked(item, self._fields)
        return found


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


def narrow(node: Node, rule: Rule, fields: FieldTable, exceptions: CheckedExceptions) -> Narrowed:
    """Return the query and the filters of a rule without the events that its exceptions cover.

    An exception with an error is left out: too many alerts are better than a rule that does not
    run.
    """
    checked = [exceptions.of(item) for item in rule.exceptions]
    issues = [issue for each in checked for issue in each.issues]
    sound = [each for each in checked if each.is_sound]

    def is_too_large(count: int) -> bool:
        narrowed = _narrowed(node, rule.filters, sound[:count])
        try:
            compile_node(narrowed.node, fields)
            compile_filters(narrowed.filters, fields)
        except (QueryLimitError, UnsupportedFilterError):
            return True
        return False

    fitting = len(sound)
    if sound and is_too_large(fitting):
        fitting = bisect_left(range(fitting), True, key=lambda last: is_too_large(last + 1))
        issues.append(_too_large(sound[fitting].item, len(sound) - fitting - 1))
    return _narrowed(node, rule.filters, sound[:fitting])._replace(issues=tuple(issues))


def _narrowed(
    node: Node, filters: Sequence[Mapping[str, Any]], checked: Sequence[_Checked]
) -> Narrowed:
    items = tuple(each.item for each in checked)
    excluded = [{"meta": {"negate": True}, "query": each.filter} for each in items if each.filter]
    excepted = [each.node for each in checked if each.node is not None]
    if excepted:
        # A query's `and` and an `or` of exceptions, each flat: the compiler joins tests of a field.
        children = node.children if isinstance(node, And) else (node,)
        either = excepted[0] if len(excepted) == 1 else Or(tuple(excepted))
        node = And((*children, Not(either)))
    return Narrowed(node, (*filters, *excluded), items, ())


def covers(item: ExceptionItem, event: Event, fields: FieldTable) -> bool:
    """Whether a sound exception covers an event."""
    if item.query is not None:
        return compile_node(parse(item.query), fields)(event)
    matcher = compile_filters([{"query": item.filter}], fields)
    return matcher is not None and matcher(event)


def _checked(item: ExceptionItem, fields: FieldTable) -> _Checked:
    if item.query is None:
        return _Checked(item, None, tuple(_issues_of_filter(item, fields)))
    try:
        node = parse(item.query)
        compile_node(node, fields, text=item.query)
    except QueryError as error:
        return _Checked(item, None, (_query_issue(item, error),))
    return _Checked(item, node, tuple(_issues_of_query(item, item.query, node, fields)))


def _issues_of_query(
    item: ExceptionItem, query: str, node: Node, fields: FieldTable
) -> Iterator[Issue]:
    if _is_always_true(node):
        yield _excepts_all(item)
    negated = negated_field_names(node)
    for name in sorted(field_names(node)):
        # Nobody warns of a pattern that no field has, as in a rule: but it must not be negated.
        is_known = _has_field(name, fields) if "*" in name else fields.get(name) is not None
        if not is_known and (name in negated or "*" not in name):
            line = _line_in_query(item, max(0, query.find(name)))
            yield _unmapped(item, name, line, fields, is_negated=name in negated)


def _has_field(pattern: str, fields: FieldTable) -> bool:
    return bool(fields.expand(Wildcard(tuple(pattern.split("*")))))


def _is_always_true(node: Node) -> bool:
    """Whether every event satisfies a query, as far as its form says."""
    match node:
        case And():
            return all(map(_is_always_true, node.children))
        case Or():
            return any(map(_is_always_true, node.children))
        case Not(Not(child)):
            return _is_always_true(child)
        case _:
            return node in _EVERYTHING


def _issues_of_filter(item: ExceptionItem, fields: FieldTable) -> Iterator[Issue]:
    unmapped: dict[str, Place] = {}
    try:
        compile_filters([{"query": item.filter}], fields, unmapped=unmapped)
    except UnsupportedFilterError as error:
        text = f"exception {item.name!r}: {error.message}"
        line = _line_of_entry(item, error.place)
        yield Issue("unsupported_exception", "error", text, item.path, line)
        return
    for name, place in unmapped.items():
        line = _line_of_entry(item, place)
        yield _unmapped(item, name, line, fields, is_negated="must_not" in place)


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


def _unmapped(
    item: ExceptionItem, name: str, line: int | None, fields: FieldTable, *, is_negated: bool
) -> Issue:
    """Return the issue of a field without a type.

    A negated clause on it would be true of every event, so the exception would cover events that
    its author wanted to keep.
    """
    near = _nearest(name, fields)
    text = f"exception {item.name!r}: field {name} is not mapped"
    return Issue(
        "unmapped_field",
        "error" if is_negated else "warning",
        f"{text}, and a clause on it is negated: all events would satisfy that clause"
        if is_negated
        else f"{text}: no event satisfies a clause on it",
        item.path,
        line,
        hint=f"did you mean {near}?" if near else "add its type with rules.fields",
    )


@lru_cache(maxsize=256)
def _nearest(name: str, fields: FieldTable) -> str | None:
    """Return the field that was probably meant: a slow search, often of one name in many items."""
    return fields.suggest(name)


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
