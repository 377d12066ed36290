"""A rule made ready to judge events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.kql import Clause, FieldTable, Memo, MemoMatcher, ReadTerms, Searches
from pipeline.kql.nodes import Node
from pipeline.rules.history import term_tuples, term_values
from pipeline.rules.model import Rule
from pipeline.types import Event, Term


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRule:
    """A rule with its query compiled. Compared by identity: closures have no equality.

    Attributes:
        rule: the rule as read.
        node: its parsed query.
        query: the same as canonical text: equal queries have equal texts.
        fields: the field types it was compiled against.
        matcher: query and filters; total.
        terms: one reader per new-terms field, in the rule's order: the distinct indexed values
            of an event (semantics of Elasticsearch's doc values). Empty for other types, and
            where a field has no terms.
        history_id: 16 hex digits that name the rule's history: another query, other filters or
            other fields are another history, as they are for Kibana, and so is another
            `timestamp_override`.
        clauses: what the JSON of every event that matches holds; empty if nothing is known.
        searches: whether the rule's index patterns take in an index of this name.
        patterns: the searches for the patterns of the rule and of all that it shares memos with.
    """

    rule: Rule
    node: Node
    query: str
    fields: FieldTable
    matcher: MemoMatcher
    terms: tuple[ReadTerms, ...]
    history_id: str
    clauses: tuple[Clause, ...]
    searches: Callable[[str], bool]
    patterns: Searches

    def accepts_index(self, name: str | None) -> bool:
        """Whether an event of this index is the rule's business.

        An event whose index is not known (None) is: a rule must not go blind because a producer
        leaves out `data_stream`.
        """
        return name is None or self.searches(name)

    def tuples(self, event: Event, memo: Memo | None = None) -> Iterator[tuple[Term, ...]]:
        """The event's new-terms tuples; none for a rule of another type."""
        return term_tuples(self.terms, event, memo)

    def values(self, event: Event, memo: Memo | None = None) -> list[tuple[Term, ...]]:
        """The distinct values of each new-terms field; empty if the event has no tuple."""
        return term_values(self.terms, event, memo)
