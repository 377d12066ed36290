"""The verdict of a `new_terms` rule on one sighting, and the tuples of an event.

At each run, Kibana asks an index whether the earliest document in the history that has the tuple is
within the searched interval. On a stream, the time at which the tuple was last seen answers the
same question. The stream, the replay and the rule tests all take the verdict from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from pipeline.kql import Memo, ReadTerms
from pipeline.types import Event, Term


def is_new(last_seen_ms: int | None, time_ms: int, window_ms: int) -> bool:
    """Whether a tuple seen at ``time_ms`` is new.

    A tuple that was last seen exactly one window ago is still known: the lower end of Kibana's
    history range is inclusive.

    Args:
        last_seen_ms: the latest effective time at which it was seen before (epoch ms), None if
            never.
        time_ms: the effective time of this sighting (epoch ms).
        window_ms: the length of the rule's history.
    """
    return last_seen_ms is None or last_seen_ms < time_ms - window_ms


def term_values(
    readers: Sequence[ReadTerms], event: Event, memo: Memo | None = None
) -> list[tuple[Term, ...]]:
    """Return the distinct values of each field; their cartesian product is the event's tuples.

    An event without a value in one of the fields has no tuple, as in Elasticsearch's composite and
    terms aggregations. The list is empty then.
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
    """Return the tuples of an event, in order of the fields and of first occurrence."""
    values = term_values(readers, event, memo)
    return product(*values) if values else iter(())
