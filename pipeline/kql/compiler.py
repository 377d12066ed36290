"""Compiles nodes to a matcher: closures over precomputed readers and tests.

Every clause is checked against the field table once, here. What Elasticsearch would reject for the
whole search (`process.pid:abc`) is an error now, never a "no match" later. The matcher itself is
total, and walks each value at most once per clause.

A query means what Kibana's translation of KQL (kbn-es-query, functions/is.ts and range.ts) means to
Elasticsearch; docs/query-language.md explains it in full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from pipeline.errors import QueryTypeError, Span
from pipeline.kql.blocks import Block, Test
from pipeline.kql.dates import Clock
from pipeline.kql.field_table import FieldTable
from pipeline.kql.field_type import Entry, FieldType
from pipeline.kql.fields import as_dict, object_reader
from pipeline.kql.free_text import FreeText, operator_in, part_predicate, pattern_parts
from pipeline.kql.limits import (
    MAX_CLAUSES,
    MAX_PATTERNS,
    check_depth,
    too_many_clauses,
    too_many_patterns,
)
from pipeline.kql.matching import (
    ALWAYS,
    NEVER,
    WALK_COST,
    Leaf,
    Part,
    all_of,
    any_of,
    join_by_field,
    leaf_part,
    negated,
)
from pipeline.kql.memo import Memo
from pipeline.kql.nodes import (
    MATCH_ALL,
    NO_NAME,
    And,
    Boolean,
    Is,
    Nested,
    Node,
    Not,
    Null,
    Or,
    Range,
    Text,
    Wildcard,
    literal_text,
)
from pipeline.kql.parser import parse
from pipeline.kql.predicates import Anything, Predicate
from pipeline.kql.printer import format_query
from pipeline.kql.shared_patterns import SharedPatterns
from pipeline.kql.values import KeywordType, Operand, ValueRefused
from pipeline.kql.values.folding import is_longer
from pipeline.kql.walk import has_below
from pipeline.types import Event, Matcher

FEW_OBJECTS: Final = 8
"""Up to this many objects of a nested path are tested one by one."""

_WALK_NS: Final = 5_000
"""Estimated nanoseconds to walk through one object of a nested path."""


class MemoMatcher(Protocol):
    """A matcher that can be given a memo, to share what has been indexed of an event."""

    def __call__(self, event: Event, memo: Memo | None = None, /) -> bool:
        """Return whether the event matches.

        It never raises for a JSON document, except `pipeline.errors.TooCostlyError` if the memo has
        a budget that does not suffice.
        """


def compile_query(
    text: str,
    fields: FieldTable | Mapping[str, Entry] | None = None,
    *,
    clock: Clock | None = None,
) -> Matcher:
    """Compile a KQL text.

    Args:
        text: the query; an empty one matches everything.
        fields: the field types; None is the built-in table.
        clock: returns the present time in epoch milliseconds; called at each match. Without it, a
            query with the date `now` is refused.

    Returns:
        A function that tells whether an event matches. It never raises for a JSON document.

    Raises:
        QuerySyntaxError: the text is not KQL.
        QueryTypeError: a literal that its field's type refuses.
        QueryLimitError: nested too deeply, or too many clauses or patterns.
        FieldTypesError: ``fields`` is a mapping with an unknown type or option.
    """
    if fields is None:
        fields = FieldTable.builtin()
    elif not isinstance(fields, FieldTable):
        fields = FieldTable.from_mapping(fields)
    return compile_node(parse(text), fields, clock=clock, text=text)


def compile_node(
    node: Node,
    table: FieldTable,
    *,
    clock: Clock | None = None,
    text: str | None = None,
    patterns: SharedPatterns | None = None,
) -> MemoMatcher:
    """Compile a parsed query like `compile_query`, to a matcher that can share work with others.

    Args:
        node: the query.
        table: the field types.
        clock: returns the present time in epoch milliseconds, for `now`.
        text: what the node was parsed from, for the carets of errors. Without it, an error shows
            the clause in question.
        patterns: the patterns of the queries with which it shares memos: one search covers them
            all.
    """
    check_depth(node, text or "")
    test = _Compiler(table, clock, text, patterns or SharedPatterns()).part(node, None).test

    def matches(event: Event, memo: Memo | None = None) -> bool:
        if memo is None:
            memo = Memo()
        return test(event if type(event) is dict else as_dict(event), memo)

    return matches


def compile_test(
    node: Node, table: FieldTable, nested: str | None, *, clock: Clock | None = None
) -> Test:
    """Compile a node inside of a nested block, to a test of the block's objects."""
    return _Compiler(table, clock, None, SharedPatterns()).part(node, nested).test


def compile_leaves(clauses: Iterable[Is | Range], table: FieldTable) -> list[Leaf] | None:
    """Compile clauses of a query to tests of their fields.

    Returns:
        None if one of the clauses does not name exactly one mapped field.
    """
    compiler = _Compiler(table, None, None, SharedPatterns())
    compiled = [compiler.clause(clause, None) for clause in clauses]
    leaves = [each for each in compiled if isinstance(each, Leaf)]
    return leaves if len(leaves) == len(compiled) else None


class _Compiler:
    def __init__(
        self, table: FieldTable, clock: Clock | None, text: str | None, patterns: SharedPatterns
    ) -> None:
        self._table = table
        self._clock = clock
        self._text = text
        self._shared_patterns = patterns
        self._clauses = 0
        self._patterns: Counter[str] = Counter()

    def part(self, node: Node, nested: str | None) -> Part:
        match node:
            case And():
                return all_of([self.part(child, nested) for child in node.children])
            case Or():
                return self._any(node, nested)
            case Not():
                return negated(self.part(node.child, nested))
            case Nested():
                return self._nested(node, nested)
            case Is() | Range():
                return self._alone(self.clause(node, nested), nested)

    def _alone(self, compiled: Leaf | FreeText | Part, nested: str | None) -> Part:
        match compiled:
            case Leaf():
                return leaf_part(compiled, nested, self._shared_patterns)
            case FreeText():
                # Inside of a nested block there is no free text, so the rows are never asked for.
                test = compiled.compile(self._table, self._shared_patterns)
                return Part(test, WALK_COST, NEVER.rows)
            case Part():
                return compiled

    def _any(self, node: Or, nested: str | None) -> Part:
        """Compile an `or`; tests of the same field are joined, so that its values are read once."""
        leaves: list[Leaf] = []
        texts: list[FreeText] = []
        parts: list[Part] = []
        for child in node.children:
            compiled = (
                self.clause(child, nested)
                if isinstance(child, Is | Range)
                else self.part(child, nested)
            )
            match compiled:
                case Leaf():
                    leaves.append(compiled)
                case FreeText():
                    texts.append(compiled)
                case Part():
                    parts.append(compiled)
        joined: list[Leaf | FreeText] = [*join_by_field(leaves)]
        if texts:
            joined.append(FreeText.join(texts))
        return any_of([*(self._alone(leaf, nested) for leaf in joined), *parts])

    def _nested(self, node: Nested, nested: str | None) -> Part:
        path = _full(node.path, nested)
        found = self._table.get(path)
        if found is None or found.type != "nested":
            raise self._wrong_path(node, path, found)
        # A deeper nested path may be named directly: `a.b:{ ... }` needs no `a:{ ... }` around it.
        child = self.part(node.child, path)
        return _block_part(node.path, child)

    def clause(self, node: Is | Range, nested: str | None) -> Leaf | FreeText | Part:
        if isinstance(node.value, Null):
            raise self._refused(
                node,
                "`null` is not a value",
                'quote it for the text "null"; for a missing field write `not field:*`',
            )
        if node == MATCH_ALL:
            self._count(node)
            return ALWAYS
        match node.field:
            case None if nested is None:
                return self._free_text(node, node.value)
            case None:
                return self._named(node, NO_NAME, nested)
            case Wildcard():
                found = self._expanded(node, node.field, nested)
                return any_of([self._alone(self._leaf(node, f), nested) for f in found])
            case name:
                return self._named(node, name, nested)

    def _free_text(self, node: Is | Range, value: Text | Boolean | Wildcard) -> FreeText | Part:
        # It is tested against the values of each type.
        self._count(node, len(self._table.value_types))
        if isinstance(value, Wildcard):
            if value.is_lone:
                return ALWAYS
            self._check_words(node, value)
        return FreeText.of(value, self._table)

    def _expanded(
        self, node: Is | Range, pattern: Wildcard, nested: str | None
    ) -> Iterable[FieldType]:
        if nested is None:
            return self._table.expand(pattern)
        found = self._table.expand(_full_pattern(pattern, nested))
        for field in found:
            if field.nested != nested:
                raise self._needs_braces(node, field, nested)
        return found

    def _named(self, node: Is | Range, name: str, nested: str | None) -> Leaf | Part:
        found = self._table.get(_full(name, nested))
        if found is None:
            self._count(node)
            return NEVER
        if found.nested != nested or found.type == "nested":
            raise self._needs_braces(node, found, nested)
        if not found.is_container:
            return self._leaf(node, found)
        self._count(node)
        if not _is_exists(node):
            return NEVER
        return _exists_below(found.name, self._table, nested)

    def _leaf(self, node: Is | Range, found: FieldType) -> Leaf:
        self._count(node)
        try:
            if isinstance(node, Range):
                operand = Operand(literal_text(node.value), clock=self._clock)
                test = found.value_type.compares(node.operator, operand)
                return Leaf(found, predicates=(test,))
            if isinstance(node.value, Wildcard):
                return Leaf(found, predicates=self._pattern(node, node.value, found))
            return self._equal(node, found)
        except ValueRefused as refused:
            message = f"{refused.message} (`{found.name}` is of type {found.type})"
            raise self._refused(node, message, refused.hint) from refused

    def _equal(self, node: Is, found: FieldType) -> Leaf:
        text = literal_text(node.value)
        value_type = found.value_type
        if isinstance(value_type, KeywordType):
            limit = value_type.ignore_above
            if limit is not None and is_longer(text, limit):
                return Leaf(found)  # no value of this length is indexed
            return Leaf(found, exact=frozenset({value_type.normal(text)}))
        phrase = isinstance(node.value, Text) and node.value.quoted
        return Leaf(found, predicates=(value_type.equals(Operand(text, phrase, self._clock)),))

    def _check_words(self, node: Is | Range, value: Wildcard) -> None:
        word = operator_in(value)
        if word is not None:
            raise self._refused(
                node,
                f"`{word}` between the spaces of a pattern is an operator to Elasticsearch",
                "write a clause for each of its parts",
            )

    def _pattern(
        self, node: Is | Range, value: Wildcard, found: FieldType
    ) -> tuple[Predicate, ...]:
        if value.is_lone:
            return (Anything(),)
        self._patterns[found.name] += 1
        if self._patterns[found.name] > MAX_PATTERNS:
            text, span = self._place(node, value.span)
            raise too_many_patterns(found.name, text, span)
        if found.type == "keyword":
            return (found.value_type.matches(value.parts),)
        self._check_words(node, value)
        parts = pattern_parts(value)
        return tuple(part_predicate(found.value_type, part) for part in parts)

    def _count(self, node: Node, clauses: int = 1) -> None:
        self._clauses += clauses
        if self._clauses > MAX_CLAUSES:
            text, span = self._place(node, node.span)
            raise too_many_clauses(text, span)

    def _place(self, node: Node, span: Span) -> tuple[str, Span]:
        if self._text is not None:
            return self._text, span
        text = format_query(node)
        return text, Span(0, len(text))

    def _refused(self, node: Is | Range, message: str, hint: str | None) -> QueryTypeError:
        text, span = self._place(node, node.value.span)
        return QueryTypeError(message, text=text, span=span, hint=hint)

    def _wrong_path(self, node: Nested, path: str, found: FieldType | None) -> QueryTypeError:
        hint = None
        if found is not None and found.type == "object":
            hint = f"name the fields: `{node.path}.field:value`"
        elif found is None and (meant := self._table.suggest(path)):
            hint = f"did you mean `{meant}`?"
        kind = "not in the field table" if found is None else f"of type {found.type}, not nested"
        text, span = self._place(node, Span(node.span.start, node.span.start + len(node.path)))
        return QueryTypeError(f"`{path}` is {kind}", text=text, span=span, hint=hint)

    def _needs_braces(self, node: Node, found: FieldType, nested: str | None) -> QueryTypeError:
        path = found.name if found.type == "nested" else found.nested or ""
        inside = path if nested is None else path[len(nested) + 1 :]
        rest = found.source[len(path) + 1 :]
        text, span = self._place(node, node.span)
        return QueryTypeError(
            f"`{found.name}` is inside nested objects",
            text=text,
            span=span,
            hint=f"write `{inside}:{{ {rest or 'field'}:value }}`: one object satisfies all of it",
        )


def _is_exists(node: Is | Range) -> bool:
    return isinstance(node, Is) and isinstance(node.value, Wildcard) and node.value.is_lone


def _full(name: str, nested: str | None) -> str:
    return name if nested is None else f"{nested}.{name}"


def _full_pattern(name: Wildcard, nested: str) -> Wildcard:
    return Wildcard((f"{nested}.{name.parts[0]}", *name.parts[1:]))


def _block_part(path: str, child: Part) -> Part:
    """Return a test of whether the child holds for an object at a nested path."""
    key, read = ("block", path), object_reader(path)

    def test(event: dict[str, Any], memo: Memo) -> bool:
        block: Block | None = memo.get(key)
        if block is None:
            block = memo[key] = Block(read(event), memo.budget)
        if len(block.objects) > FEW_OBJECTS:
            return child.rows(block) != 0
        return any(map(child.test, block.objects, block.memos))

    return Part(test, child.cost + 20, lambda block: block.inner(path, child.rows))


def _exists_below(path: str, table: FieldTable, nested: str | None) -> Part:
    """Return a test of whether an object has any indexed value in a field below it."""

    def test(event: dict[str, Any], memo: Memo) -> bool:
        return has_below(path, event, table, nested, memo)

    return Part(test, WALK_COST, lambda block: block.each(test, _WALK_NS))
