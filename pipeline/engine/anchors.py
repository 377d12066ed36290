"""Anchors: the needles that are searched for in many records at once.

Whatever matches a rule satisfies each clause of the rule. So it is enough to search for one clause
of each rule to find everything that may match. Which clause is best depends on the traffic:
`"process"` as a value is in no library event, and in every process event. So needles are counted in
samples of the traffic, and the clauses that are satisfied least often are chosen. No verdict
depends on the choice, because whatever contains an anchor is then tested against all clauses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain

from pipeline.kql import Clause, Needle

_EVENT_BYTES = 2048
"""The assumed size of an event, to express costs per event; nothing depends on its being
accurate."""

_PRICE_OF_KEY = 0.03
"""The cost, in hits, of a text that turns out to be a key: it is found, and then rejected."""

_PRICE_OF_NEEDLE = 0.003
"""The cost of each additional needle, in hits per event: searching for fewer is faster."""


class NeedleCounts:
    """How often each needle was found in sampled traffic, as a value and as a key."""

    def __init__(self) -> None:
        self.values: Counter[Needle] = Counter()
        self.keys: Counter[Needle] = Counter()
        self.bytes = 0

    def fade(self) -> None:
        """Halve all counts, so that newer traffic counts more."""
        self.bytes //= 2
        for counter in (self.values, self.keys):
            for needle in counter:
                counter[needle] //= 2

    def price(self, needles: Iterable[Needle]) -> float:
        """Return the cost of searching for these needles, in hits per event."""
        events = max(self.bytes / _EVENT_BYTES, 1.0)
        return sum(
            _PRICE_OF_NEEDLE + (self.values[needle] + _PRICE_OF_KEY * self.keys[needle]) / events
            for needle in needles
        )


def choose_anchors(
    requirements: Iterable[tuple[Clause, ...]], counts: NeedleCounts
) -> frozenset[Needle]:
    """Return a cheap set of needles that includes all needles of one clause of each rule.

    Args:
        requirements: the clauses of each rule: at least one, the most selective first.
        counts: what was found in samples of the traffic.
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
    """Yield clauses that cost little per rule until each rule has one: a greedy cover."""
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
        # By now the clause may serve fewer rules than its price assumes, but never more. So it goes
        # back into the queue at its new price, unless it is still the cheapest.
        price = prices[clause] / len(asking[clause])
        if queue and price > queue[0][0]:
            heappush(queue, (price, number))
            continue
        left -= asking[clause]
        yield clause
