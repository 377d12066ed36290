"""Exact values that fields of a matching event have, for an index of many queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from pipeline.kql.clauses import clauses_of
from pipeline.kql.field_table import FieldTable
from pipeline.kql.field_type import FieldType
from pipeline.kql.nodes import Boolean, Is, Node, Text, literal_text
from pipeline.kql.values import KeywordType


@dataclass(frozen=True, slots=True)
class ExactValue:
    """A field that has this value, in its indexed form, perhaps among others."""

    field: FieldType
    value: str


ExactClause: TypeAlias = frozenset[ExactValue]
"""Exact values, at least one of which a matching event has."""


def exact_clauses(node: Node, table: FieldTable) -> tuple[ExactClause, ...]:
    """Return the exact values a matching event has, shortest clause first; empty if none are known.

    Only whole keywords outside of nested objects count.
    """

    def leaf(node: Is, nested: str | None) -> tuple[ExactClause, ...]:
        if nested is not None or not isinstance(node.field, str):
            return ()
        if not isinstance(node.value, Text | Boolean):
            return ()
        found = table.get(node.field)
        if found is None or found.is_container or found.nested is not None:
            return ()
        if not isinstance(found.value_type, KeywordType):
            return ()
        return (frozenset({ExactValue(found, found.value_type.normal(literal_text(node.value)))}),)

    return clauses_of(node, leaf, lambda clause: (len(clause),))
