"""How large a query may be. A larger one is refused before it costs time or stack."""

from __future__ import annotations

from pipeline.errors import QueryLimitError, Span
from pipeline.kql.nodes import Node, children_of

MAX_DEPTH = 100
"""Levels of parentheses and braces in a text, and of nodes in its tree."""

MAX_CLAUSES = 20_000
"""Single comparisons, counted after field-name wildcards have been expanded. Free text counts once
for each type of value."""

MAX_PATTERNS = 1_000
"""Patterns with stars on one field: each is a search through its values, however long they are."""


def too_many_patterns(field: str, text: str, span: Span) -> QueryLimitError:
    return QueryLimitError(
        f"the query has more than {MAX_PATTERNS} patterns with stars on `{field}`",
        text=text,
        span=span,
        hint="values without stars have no such limit",
    )


def too_deep(text: str, span: Span) -> QueryLimitError:
    return QueryLimitError(
        f"the query is nested more than {MAX_DEPTH} levels deep", text=text, span=span
    )


def too_many_clauses(text: str, span: Span) -> QueryLimitError:
    return QueryLimitError(
        f"the query has more than {MAX_CLAUSES} clauses",
        text=text,
        span=span,
        hint="field-name wildcards count once for every field they match, free text for every type",
    )


def check_depth(root: Node, text: str = "") -> None:
    """Refuse a tree that the recursive parts of this package could not walk.

    Raises:
        QueryLimitError: the tree has more than `MAX_DEPTH` levels.
    """
    level: list[Node] = [root]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in children_of(node)]
        if not level:
            return
    raise too_deep(text, Span(level[0].span.start, level[0].span.end))
