"""Parses KQL text to nodes: recursive descent over Kibana's grammar (kbn-es-query, grammar.peggy).

Kibana's parser is a PEG and backtracks. One pass without backtracking accepts the same language,
because after `and`, `or`, `not`, a colon or a bracket has been read, there is no other way to read
what follows. So a text of n characters takes O(n), and an error is reported where the text goes
wrong.

Some of the grammar is surprising, but correct:

* Whitespace is mandatory around `and` and `or`, and after `not`.
* A literal includes the spaces inside it.
* There can be only one `not` in a row.
* `not` followed by a space ends a literal, even inside a word.
* Before the colon of a value, an unquoted `null` is no name: the value is free text.
"""

from __future__ import annotations

import re
from typing import NamedTuple, cast

from pipeline.errors import QuerySyntaxError, Span
from pipeline.kql.limits import (
    MAX_CLAUSES,
    MAX_DEPTH,
    check_depth,
    too_deep,
    too_many_clauses,
)
from pipeline.kql.nodes import (
    MATCH_ALL,
    And,
    Boolean,
    FieldName,
    Is,
    Literal,
    Nested,
    Node,
    Not,
    Null,
    Operator,
    Or,
    Range,
    Text,
    Wildcard,
)
from pipeline.kql.scanner import WS, Scan, scan_literal, skip_whitespace

_FLAGS = re.IGNORECASE | re.ASCII
_NOT = re.compile(f"not[{WS}]+", _FLAGS)
_OPERATORS = {
    "and": re.compile(f"[{WS}]+and[{WS}]+", _FLAGS),
    "or": re.compile(f"[{WS}]+or[{WS}]+", _FLAGS),
}
_COMPARISON = re.compile("<=|>=|<|>")
_GLUED_KEYWORD = re.compile(rf"(?:^|[{WS}()])(and|or|not)$", _FLAGS)


def parse(text: str) -> Node:
    """Parse a query. An empty one matches everything.

    Raises:
        QuerySyntaxError: the text is not KQL; the error has the position.
        QueryLimitError: more than `MAX_DEPTH` levels or `MAX_CLAUSES` clauses.
    """
    node = _Parser(text).query()
    check_depth(node, text)
    return node


class _ValueList(NamedTuple):
    """A list of values in brackets.

    Attributes:
        field: the field before the colon; None if the values are free text.
    """

    field: FieldName | None


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._depth = 0
        self._clauses = 0

    def query(self) -> Node:
        self._skip()
        if self._position == len(self._text):
            return MATCH_ALL
        node = self._group(None)
        self._skip()
        if self._position < len(self._text):
            raise self._unexpected()
        return node

    def _group(self, within: _ValueList | None) -> Node:
        """Parse an ``or`` of ``and`` of operands, which are values within a list of values."""
        alternatives: list[Node] = []
        terms: list[Node] = []
        while True:
            terms.append(self._negatable(within))
            if self._took(_OPERATORS["and"]):
                continue
            alternatives.append(_joined(And, terms))
            terms = []
            if not self._took(_OPERATORS["or"]):
                return _joined(Or, alternatives)

    def _negatable(self, within: _ValueList | None) -> Node:
        start = self._position
        if not self._took(_NOT):
            return self._operand(within)
        child = self._operand(within)
        return Not(child, span=Span(start, self._position))

    def _operand(self, within: _ValueList | None) -> Node:
        if self._next_is("("):
            return self._bracketed(within, ")")
        scan = self._literal(value=within is not None)
        if within is not None:
            return self._clause(Is(within.field, _value(scan), span=scan.span))
        return self._after_literal(scan)

    def _bracketed(self, within: _ValueList | None, closing: str) -> Node:
        opened = Span(self._position, self._position + 1)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise too_deep(self._text, opened)
        self._position += 1
        self._skip()
        node = self._group(within)
        self._skip()
        if not self._next_is(closing):
            raise self._unclosed(opened, closing, within)
        self._position += 1
        self._depth -= 1
        return node

    def _after_literal(self, scan: Scan) -> Node:
        """Decide by what follows a literal: a range, a value, a nested block or free text."""
        here = skip_whitespace(self._text, scan.end)
        if comparison := _COMPARISON.match(self._text, here):
            self._position = skip_whitespace(self._text, comparison.end())
            value = self._literal()
            operator = cast("Operator", comparison.group())
            span = Span(scan.start, self._position)
            return self._clause(Range(_name(scan), operator, _value(value), span=span))
        if self._text.startswith(":", here):
            self._position = skip_whitespace(self._text, here + 1)
            return self._after_colon(scan)
        return self._clause(Is(None, _value(scan), span=scan.span))

    def _after_colon(self, scan: Scan) -> Node:
        if self._next_is("{"):
            path = _name(scan)
            if isinstance(path, Wildcard):
                raise QuerySyntaxError(
                    "the path of a nested block cannot hold a star",
                    text=self._text,
                    span=scan.span,
                )
            child = self._bracketed(None, "}")
            return Nested(path, child, span=Span(scan.start, self._position))
        if self._next_is("("):
            return self._bracketed(_ValueList(_field(scan)), ")")
        value = self._literal(value=True, after_colon=True)
        span = Span(scan.start, self._position)
        return self._clause(Is(_field(scan), _value(value), span=span))

    def _clause(self, node: Is | Range) -> Node:
        self._clauses += 1
        if self._clauses > MAX_CLAUSES:
            raise too_many_clauses(self._text, node.span)
        return node

    def _literal(self, *, value: bool = False, after_colon: bool = False) -> Scan:
        scan = scan_literal(self._text, self._position)
        if scan is None:
            raise self._no_literal(value=value, after_colon=after_colon)
        self._position = scan.end
        return scan

    def _skip(self) -> None:
        self._position = skip_whitespace(self._text, self._position)

    def _next_is(self, character: str) -> bool:
        return self._text.startswith(character, self._position)

    def _took(self, pattern: re.Pattern[str]) -> bool:
        found = pattern.match(self._text, self._position)
        if found:
            self._position = found.end()
        return found is not None

    def _no_literal(self, *, value: bool, after_colon: bool) -> QuerySyntaxError:
        expected = "a value" if value else "a field or a value"
        hint = None
        if _NOT.match(self._text, self._position):
            hint = "write `not (not ...)` for a double negation"
            if after_colon:
                hint = "write `not field:value` or `field:(not value)`"
        elif after_colon and _COMPARISON.match(self._text, self._position):
            hint = "a range has no colon: write `field > value`"
        return self._error(f"expected {expected}, found {self._found()}", hint)

    def _unclosed(self, opened: Span, closing: str, within: _ValueList | None) -> QuerySyntaxError:
        if self._position >= len(self._text):
            bracket = self._text[opened.start]
            return QuerySyntaxError(f"this `{bracket}` never closes", text=self._text, span=opened)
        error = self._unexpected(f" before the closing `{closing}`")
        if within is not None and self._next_is(":"):
            error.hint = "quote a value with a colon, or close the list first"
        return error

    def _unexpected(self, where: str = "") -> QuerySyntaxError:
        """Return the error for something that cannot follow a complete expression."""
        before = _GLUED_KEYWORD.search(self._text[max(0, self._position - 8) : self._position])
        hint = None
        if self._next_is("(") and before:
            hint = f"whitespace is required around `{before.group(1)}`"
        elif _NOT.match(self._text, self._position):
            hint = "`not` and a space end a literal: quote the value"
        elif self._next_is('"') or self._next_is("("):
            hint = "write `and` or `or` between two expressions"
        elif self._next_is(":"):
            hint = "write `and` or `or` between two expressions, or quote a value with a colon"
        return self._error(f"unexpected {self._found()}{where}", hint)

    def _found(self) -> str:
        if self._position >= len(self._text):
            return "the end of the query"
        if word := _NOT.match(self._text, self._position):
            return f"`{word.group().strip(WS)}`"
        return f"`{self._text[self._position]}`"

    def _error(self, message: str, hint: str | None) -> QuerySyntaxError:
        span = Span(self._position, min(self._position + 1, len(self._text)))
        return QuerySyntaxError(message, text=self._text, span=span, hint=hint)


def _joined(kind: type[And | Or], nodes: list[Node]) -> Node:
    if len(nodes) == 1:
        return nodes[0]
    return kind(tuple(nodes), span=Span(nodes[0].span.start, nodes[-1].span.end))


def _name(scan: Scan) -> FieldName:
    return scan.parts[0] if len(scan.parts) == 1 else Wildcard(scan.parts, span=scan.span)


def _field(scan: Scan) -> FieldName | None:
    """Return the field before a colon: an unquoted ``null`` is none, as in Kibana."""
    name = _name(scan)
    return None if name == "null" and not scan.quoted else name


def _value(scan: Scan) -> Literal:
    if len(scan.parts) > 1:
        return Wildcard(scan.parts, span=scan.span)
    text = scan.parts[0]
    if scan.quoted:
        return Text(text, quoted=True, span=scan.span)
    if text == "null":
        return Null(span=scan.span)
    if text in {"true", "false"}:
        return Boolean(text == "true", span=scan.span)
    return Text(text, span=scan.span)
