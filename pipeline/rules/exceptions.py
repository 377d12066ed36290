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
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import QueryError, QueryLimitError
from pipeline.kql import FieldTable, compile_node, field_names, parse
from pipeline.kql.nodes import LONE_STAR, MATCH_ALL, And, Is, Node, Not, Or
from pipeline.rules.issues import Issue
from pipeline.rules.keys import EXCEPTION_FILE_KEYS
from pipeline.rules.locate import TomlSource
from pipeline.rules.model import ExceptionItem, Rule
from pipeline.rules.schema import Notes, check_keys, suggestion

_KEY = "exceptions"
_EVERYTHING = (MATCH_ALL, Is(None, LONE_STAR))


def holds_exceptions(document: Mapping[Any, Any]) -> bool:
    """Whether a file is one of exceptions: it has them, and no rule."""
    return _KEY in document and "rule" not in document


def parse_exceptions(
    document: Mapping[Any, Any], *, path: Path | None = None, source: TomlSource | None = None
) -> tuple[tuple[ExceptionItem, ...], tuple[Issue, ...]]:
    """Return the exceptions in a file, and everything there is to report about its keys.

    A block with a mistake is left out; the others are used.
    """
    notes = Notes(path=path, source=source)
    check_keys(document, EXCEPTION_FILE_KEYS, (), notes)
    blocks = document.get(_KEY)
    items = (
        ExceptionItem(
            name=block["name"],
            rule_ids=tuple(dict.fromkeys(block["rules"])),
            query=block["query"],
            path=path,
            place=(_KEY, index),
            source=source,
        )
        for index, block in enumerate(blocks if isinstance(blocks, Sequence) else ())
        if _is_right(block)
    )
    return tuple(items), tuple(notes.issues)


def _is_right(block: Any) -> bool:
    notes = Notes()
    check_keys({_KEY: [block]}, EXCEPTION_FILE_KEYS, (), notes)
    return not notes.has_errors


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


class Narrowed(NamedTuple):
    """A query without the events that its exceptions cover.

    Attributes:
        node: the query, and not the exceptions.
        used: the exceptions that are in it.
        issues: what there is to report about the exceptions. They do not name the rule, since
            several rules may have the same exception.
    """

    node: Node
    used: tuple[ExceptionItem, ...]
    issues: tuple[Issue, ...]


def narrow(node: Node, items: Iterable[ExceptionItem], fields: FieldTable) -> Narrowed:
    """Return a query without the events that exceptions cover.

    An exception with an error is left out: too many alerts are better than a rule that does not
    run.
    """
    sound: list[tuple[ExceptionItem, Node]] = []
    issues: list[Issue] = []
    for item in items:
        try:
            excepted = parse(item.query)
            compile_node(excepted, fields, text=item.query)
        except QueryError as error:
            issues.append(_query_issue(item, error))
            continue
        if excepted in _EVERYTHING:
            issues.append(_excepts_all(item))
            continue
        issues.extend(_unmapped(item, excepted, fields))
        sound.append((item, excepted))

    def is_too_large(last: int) -> bool:
        narrowed = _and_not(node, [excepted for _, excepted in sound[: last + 1]])
        try:
            compile_node(narrowed, fields)
        except QueryLimitError:
            return True
        return False

    fitting = bisect_left(range(len(sound)), True, key=is_too_large)
    if fitting < len(sound):
        issues.append(_too_large(sound[fitting][0], len(sound) - fitting - 1))
    used = sound[:fitting]
    narrowed = _and_not(node, [excepted for _, excepted in used]) if used else node
    return Narrowed(narrowed, tuple(item for item, _ in used), tuple(issues))


def _and_not(node: Node, excepted: Sequence[Node]) -> And:
    # A query's `and` and an `or` of exceptions, each flat: the compiler joins tests of one field.
    children = node.children if isinstance(node, And) else (node,)
    return And((*children, Not(excepted[0] if len(excepted) == 1 else Or(tuple(excepted)))))


def _too_large(item: ExceptionItem, more: int) -> Issue:
    others = f" and the {more} after it are" if more else " is"
    return Issue(
        "query_limit",
        "error",
        f"exception {item.name!r}: with it, the query of a rule is too large: it{others} left out",
        item.path,
        _line(item, "query"),
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


def _unmapped(item: ExceptionItem, node: Node, fields: FieldTable) -> list[Issue]:
    names = sorted(name for name in field_names(node) if "*" not in name)
    return [
        Issue(
            "unmapped_field",
            "warning",
            f"exception {item.name!r}: field {name} is not mapped: no event satisfies a clause on"
            " it",
            item.path,
            _line_in_query(item, max(0, item.query.find(name))),
            hint=f"did you mean {near}?" if near else "add its type with rules.fields",
        )
        for name in names
        if fields.get(name) is None
        for near in (fields.suggest(name),)
    ]


def _line(item: ExceptionItem, key: str) -> int | None:
    return None if item.source is None else item.source.line((*item.place, key))


def _line_in_query(item: ExceptionItem, offset: int) -> int | None:
    if item.source is None:
        return None
    first = item.source.value_line((*item.place, "query"))
    return first + item.query.count("\n", 0, offset)
