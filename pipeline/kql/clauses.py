"""What a query requires, as clauses: every matching event satisfies all of them.

A clause is a set of alternatives: texts in the event (`pipeline.kql.needles`), or values of fields
(`pipeline.kql.exact`). Any one of them satisfies the clause. The clauses of a query are necessary
but not sufficient: negations, and everything else without such alternatives, are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from pipeline.kql.nodes import And, Is, Nested, Node, Or

T = TypeVar("T")

MAX_KEPT = 8
"""The maximum number of clauses kept of a query: each costs time, and the first few are the most
selective."""


def clauses_of(
    node: Node,
    leaf: Callable[[Is, str | None], tuple[frozenset[T], ...]],
    rank: Callable[[frozenset[T]], tuple[int, ...]],
    nested: str | None = None,
) -> tuple[frozenset[T], ...]:
    """Return the clauses of a query, lowest rank first; empty if none are known.

    Args:
        node: the query.
        leaf: returns the clauses of a single comparison inside this nested path.
        rank: the order in which clauses are preferred.
        nested: the nested path that the node is in.
    """
    match node:
        case And():
            found = [clauses_of(child, leaf, rank, nested) for child in node.children]
            return best((clause for clauses in found for clause in clauses), rank)
        case Or():
            return clauses_of_or(
                [clauses_of(child, leaf, rank, nested) for child in node.children], rank
            )
        case Nested():
            path = node.path if nested is None else f"{nested}.{node.path}"
            return clauses_of(node.child, leaf, rank, path)
        case Is():
            return leaf(node, nested)
        case _:
            return ()


def clauses_of_or(
    found: Iterable[tuple[frozenset[T], ...]], rank: Callable[[frozenset[T]], tuple[int, ...]]
) -> tuple[frozenset[T], ...]:
    """Return the clauses of an *or*: each combines one clause of every alternative."""
    combinations: list[tuple[frozenset[T], ...]] = [()]
    shared: list[frozenset[T]] = []
    for clauses in found:
        if not clauses:
            return ()
        if 1 < len(clauses) <= MAX_KEPT // len(combinations):
            combinations = [(*before, one) for before in combinations for one in clauses]
        else:
            shared.append(clauses[0])
    # In a single union: one by one, thousands of alternatives would be copied thousands of times.
    base: frozenset[T] = frozenset().union(*shared)
    return best((base.union(*several) for several in combinations), rank)


def best(
    clauses: Iterable[frozenset[T]], rank: Callable[[frozenset[T]], tuple[int, ...]]
) -> tuple[frozenset[T], ...]:
    """Return the first few of these clauses by rank, without repeats."""
    return tuple(sorted(dict.fromkeys(clauses), key=rank)[:MAX_KEPT])
