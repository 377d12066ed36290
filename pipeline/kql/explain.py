"""Explains why an event matches or not: the query as a tree, with a verdict for each node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.kql.compiler import compile_test
from pipeline.kql.dates import Clock
from pipeline.kql.field_table import FieldTable
from pipeline.kql.field_type import FieldType
from pipeline.kql.fields import as_dict, as_list, object_reader
from pipeline.kql.limits import check_depth
from pipeline.kql.memo import Memo
from pipeline.kql.nodes import And, Is, Nested, Node, Not, Or, Range, Wildcard
from pipeline.kql.printer import format_query
from pipeline.kql.values import KeywordType


@dataclass(frozen=True, slots=True)
class Explanation:
    """One node of a query, evaluated on one event.

    Attributes:
        query: the node as canonical text.
        operator: ``and``, ``or``, ``not``, ``nested``, ``object`` (one object of a nested block) or
            ``clause``.
        matches: the verdict of this node.
        values: what a clause read from the event, as written there; empty if there is nothing.
        note: why the clause, or some of the values, cannot match: the field is not mapped, is an
            object, or did not index them; None otherwise.
        children: the nodes below.
    """

    query: str
    operator: str
    matches: bool
    values: tuple[Any, ...] = ()
    note: str | None = None
    children: tuple[Explanation, ...] = ()


def explain(
    node: Node, table: FieldTable, event: Mapping[str, Any], *, clock: Clock | None = None
) -> Explanation:
    """Evaluate every node of a query, including those that a matcher can skip.

    Raises:
        QueryTypeError: a literal that its field's type refuses.
        QueryLimitError: nested too deeply, or too many clauses or patterns.
    """
    check_depth(node)
    return _Explainer(table, clock).node(node, as_dict(event), None)


class _Explainer:
    def __init__(self, table: FieldTable, clock: Clock | None) -> None:
        self._table = table
        self._clock = clock

    def node(self, node: Node, event: dict[str, Any], nested: str | None) -> Explanation:
        text = format_query(node)
        match node:
            case And():
                below = tuple(self.node(child, event, nested) for child in node.children)
                return Explanation(text, "and", all(c.matches for c in below), children=below)
            case Or():
                below = tuple(self.node(child, event, nested) for child in node.children)
                return Explanation(text, "or", any(c.matches for c in below), children=below)
            case Not():
                child = self.node(node.child, event, nested)
                return Explanation(text, "not", not child.matches, children=(child,))
            case Nested():
                return self._nested(node, event, nested)
            case Is() | Range():
                return self._clause(node, event, nested)

    def _nested(self, node: Nested, event: dict[str, Any], nested: str | None) -> Explanation:
        compile_test(node, self._table, nested, clock=self._clock)  # refuses a wrong path
        path = node.path if nested is None else f"{nested}.{node.path}"
        objects = tuple(
            Explanation(below.query, "object", below.matches, (found,), children=(below,))
            for found in object_reader(node.path)(event)
            for below in [self.node(node.child, found, path)]
        )
        matches = any(found.matches for found in objects)
        return Explanation(format_query(node), "nested", matches, children=objects)

    def _clause(self, node: Is | Range, event: dict[str, Any], nested: str | None) -> Explanation:
        test = compile_test(node, self._table, nested, clock=self._clock)
        values: tuple[Any, ...] = ()
        note = None
        if isinstance(node.field, str):
            found = self._table.get(node.field if nested is None else f"{nested}.{node.field}")
            values = _values(found, event, nested)
            note = self._note(node.field, found, values)
        elif isinstance(node.field, Wildcard):
            values = self._expanded(node.field, event, nested)
        return Explanation(format_query(node), "clause", test(event, Memo()), values, note)

    def _expanded(
        self, field: Wildcard, event: dict[str, Any], nested: str | None
    ) -> tuple[Any, ...]:
        prefix = "" if nested is None else f"{nested}."
        pattern = Wildcard((prefix + field.parts[0], *field.parts[1:]))
        read = (_values(found, event, nested) for found in self._table.expand(pattern))
        return tuple(value for values in read for value in values)

    def _note(self, name: str, found: FieldType | None, values: tuple[Any, ...]) -> str | None:
        if found is None:
            meant = self._table.suggest(name)
            question = f"; did you mean {meant}?" if meant else ""
            return f"not in the field table{question}"
        if found.is_container:
            return "an object: only `:*` can match"
        left_out = sum(found.value_type.index(value) is None for value in values)
        if not left_out:
            return None
        which = "not indexed" if left_out == len(values) else f"{left_out} of them not indexed"
        limit = found.value_type.ignore_above if isinstance(found.value_type, KeywordType) else None
        long = f", or longer than {limit}" if limit else ""
        return f"{which}: no {found.type}{long}"


def _values(found: FieldType | None, event: dict[str, Any], nested: str | None) -> tuple[Any, ...]:
    if found is None or found.is_container:
        return ()
    return tuple(as_list(found.reader(nested)(event)))
