"""A rule that is ready to judge events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.kql import Clause, FieldTable, Memo, MemoMatcher, ReadTerms, SharedPatterns
from pipeline.kql.nodes import Node
from pipeline.rules.history import term_tuples, term_values
from pipeline.rules.model import Rule
from pipeline.types import Event, Term


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRule:
    """A rule with its query compiled. Compared by identity, because closures have no equality.

    Attributes:
        rule: the rule as read, with the exceptions that can be used.
        node: its parsed query, and not its exceptions that have a query.
        filters: its filters, and those that exclude what its other exceptions cover.
        query: `node` as canonical text: equal queries have equal texts.
        fields: the field types it was compiled against.
        matcher: query and filters, with the exceptions; total.
        terms: one reader for each new-terms field, in the rule's order, which returns the distinct
            indexed values of an event (with the semantics of Elasticsearch's doc values). Empty for
            rules of other types, and if a field has no terms.
        history_id: 16 hex digits that identify the rule's history. Another query, other filters or
            other fields make another history, as they do in Kibana, and so does another
            `timestamp_override`. Exceptions do not.
        clauses: texts that the JSON of every matching event contains (see `pipeline.kql.needles`);
            empty if nothing is known.
        includes_index: whether the rule's index patterns include an index of this name.
        shared_patterns: the star patterns of the rule and of all rules with which it shares memos.
    """

    rule: Rule
    node: Node
    filters: tuple[Mapping[str, Any], ...]
    query: str
    fields: FieldTable
    matcher: MemoMatcher
    terms: tuple[ReadTerms, ...]
    history_id: str
    clauses: tuple[Clause, ...]
    includes_index: Callable[[str], bool]
    shared_patterns: SharedPatterns

    def accepts_index(self, name: str | None) -> bool:
        """Whether the rule applies to events of this index.

        It applies to events whose index is not known (None): a rule must not go blind because a
        producer leaves out `data_stream`.
        """
        return name is None or self.includes_index(name)

    def tuples(self, event: Event, memo: Memo | None = None) -> Iterator[tuple[Term, ...]]:
        """Return the event's term tuples; none if this is not a `new_terms` rule."""
        return term_tuples(self.terms, event, memo)

    def values(self, event: Event, memo: Memo | None = None) -> list[tuple[Term, ...]]:
        """Return the distinct values of each new-terms field; empty if the event has no tuple."""
        return term_values(self.terms, event, memo)
