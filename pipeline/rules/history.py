"""The verdict of a `new_terms` rule on one sighting, and the tuples an event is seen with.

Kibana asks an index at each run whether the earliest matching document of the history holds the
tuple; a stream asks the same of the last time the tuple was seen. Both drivers, the rule tests and
the engine, take the answer from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from pipeline.kql import Memo, ReadTerms
from pipeline.types import Event, Term


def is_new(last_seen_ms: int | None, t_ms: int, window_ms: int) -> bool:
    """Whether a tuple seen at ``t_ms`` is new.

    Args:
        last_seen_ms: the latest effective time it was seen at before (epoch ms), None if never.
        t_ms: the effective time of this sighting (epoch ms).
        window_ms: the length of the rule's history.

    A tuple seen exactly one window ago is still known: the lower end of Kibana's history range is
    inclusive.
    """
    return last_seen_ms is None or last_seen_ms < t_ms - window_ms


def term_values(
    readers: Sequence[ReadTerms], event: Event, memo: Memo | None = None
) -> list[tuple[Term, ...]]:
    """The distinct values of each field, whose cartesian product is the tuples of an event.

    An event without a value in one of the fields has no tuple, as in Elasticsearch's composite and
    terms aggregations: the list is empty.
    """
    values = []
    for reader in readers:
        found = reader(event, memo)
        if not found:
            return []
        values.append(found)
    return values


def term_tuples(
    readers: Sequence[ReadTerms], event: Event, memo: Memo | None = None
) -> Iterator[tuple[Term, ...]]:
    """The tuples of an event, in the order of the fields and of first occurrence."""
    values = term_values(readers, event, memo)
    return product(*values) if values else iter(())
