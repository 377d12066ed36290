"""Anchors: the needles that are looked for in many records at once.

Whatever matches a rule answers each clause of it, so to look for one clause of each rule is enough
to find all that may match. Which one is best depends on the traffic: `"process"` as a value stands
in no library event and in every process event. So samples of the traffic are counted, and the
clauses that are answered least are looked for. No verdict depends on the choice: what holds an
anchor is asked for all clauses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain

from pipeline.kql import Clause, Needle

_EVENT_BYTES = 2048
"""An event, for counting by the event; nothing depends on its being right."""

_PRICE_OF_KEY = 0.03
"""A text that stands there as a key, in hits: it is found, and then found to be no value."""

_PRICE_OF_NEEDLE = 0.003
"""One needle more, in hits an event: a search for fewer is faster."""


class NeedleCounts:
    """How often each needle stood in sampled traffic, as a value and as a key."""

    def __init__(self) -> None:
        self.values: Counter[Needle] = Counter()
        self.keys: Counter[Needle] = Counter()
        self.bytes = 0

    def fade(self) -> None:
        """Let what was counted so far count half: traffic changes."""
        self.bytes //= 2
        for counter in (self.values, self.keys):
            for needle in counter:
                counter[needle] //= 2

    def price(self, needles: Iterable[Needle]) -> float:
        """Return what it costs to look for these needles, in hits an event."""
        events = max(self.bytes / _EVENT_BYTES, 1.0)
        return sum(
            _PRICE_OF_NEEDLE + (self.values[needle] + _PRICE_OF_KEY * self.keys[needle]) / events
            for needle in needles
        )


def choose_anchors(
    requirements: Iterable[tuple[Clause, ...]], counts: NeedleCounts
) -> frozenset[Needle]:
    """Return needles that contain, for each rule, one of its clauses, at a low price.

    Args:
        requirements: the clauses of each rule, at least one, the most telling first.
        counts: what stood in samples of the traffic.
    """
    rules = tuple(dict.fromkeys(requirements))
    prices = {clause: counts.price(clause) for clause in dict.fromkeys(chain.from_iterable(rules))}
    first = (clauses[0] for clauses in rules)
    cheapest = (min(clauses, key=prices.__getitem__) for clauses in rules)
    choices = [frozenset(chain(*chosen)) for chosen in (first, cheapest, _shared(rules, prices))]
    return min(choices, key=counts.price)


def _shared(
    rules: Sequence[tuple[Clause, ...]], prices: Mapping[Clause, float]
) -> Iterator[Clause]:
    """Yield clauses that are cheap by the rule, until each rule has one: a greedy cover."""
    asking: dict[Clause, set[int]] = {clause: set() for clause in prices}
    for rule, clauses in enumerate(rules):
        for clause in clauses:
            asking[clause].add(rule)
    left = set(range(len(rules)))
    numbered = list(prices)
    queue = [(prices[c] / len(asking[c]), number) for number, c in enumerate(numbered)]
    heapify(queue)
    while left:
        _, number = heappop(queue)
        clause = numbered[number]
        asking[clause] &= left
        if not asking[clause]:
            continue
        # Fewer rules may be left for it by now, never more: it takes its new place, or is next.
        price = prices[clause] / len(asking[clause])
        if queue and price > queue[0][0]:
            heappush(queue, (price, number))
            continue
        left -= asking[clause]
        yield clause
