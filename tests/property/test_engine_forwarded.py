"""Whatever is dropped on its way and read again, by whomever: each term is told by somebody.

The match stage of two workers on three partitions, as far as the forwarded cache is concerned. What
a worker forwards waits until it is handled. A partition may be read again from what is committed,
by the same worker or by the other one; what waits of it is lost then.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.forwarded import ForwardedCache, NativeForwardedCache
from tests.scans import KINDS
from tests.sightings import sighting

PARTITIONS, WORKERS, GRANULARITY_MS = 3, 2, 60


class Model:
    """Partitions of (term, time), who reads them, and what waits to be handled."""

    def __init__(
        self, logs: Sequence[Sequence[tuple[str, int]]], scan: str, *, clears: bool = True
    ) -> None:
        self._logs = logs
        cache_of = NativeForwardedCache if scan == "native" else ForwardedCache
        self._caches = [cache_of(granularity_ms=GRANULARITY_MS) for _ in range(WORKERS)]
        self._clears = clears
        self._owners = [number % WORKERS for number in range(len(logs))]
        self._next = [0] * len(logs)
        self._waiting: list[list[int]] = [[] for _ in logs]
        self.told: set[str] = set()

    def read(self, partition: int) -> None:
        offset = self._next[partition]
        if offset == len(self._logs[partition]):
            return
        self._next[partition] += 1
        term, time_ms = self._logs[partition][offset]
        one = sighting(term.encode(), time_ms, place=("events", partition, offset, 0))
        cache = self._caches[self._owners[partition]]
        if not cache.covers(one):
            cache.remember(one)
            self._waiting[partition].append(offset)

    def handle(self, partition: int) -> None:
        if self._waiting[partition]:
            term, _ = self._logs[partition][self._waiting[partition].pop(0)]
            self.told.add(term)

    def fail(self, partition: int) -> None:
        """A fetch ends with an error: the worker reads again what it was not told of."""
        if self._waiting[partition]:
            self._next[partition] = self._waiting[partition][0]
            self._waiting[partition].clear()

    def rebalance(self, owners: Sequence[int]) -> None:
        self._owners = list(owners)
        for partition in range(len(self._logs)):
            self.fail(partition)
        if self._clears:
            for cache in self._caches:
                cache.clear()

    def finish(self) -> None:
        for partition, log in enumerate(self._logs):
            while self._next[partition] < len(log):
                self.read(partition)
            while self._waiting[partition]:
                self.handle(partition)


partitions = st.integers(0, PARTITIONS - 1)
logs = st.lists(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 100)), min_size=3, max_size=6),
    min_size=PARTITIONS,
    max_size=PARTITIONS,
)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("read"), partitions),
        st.tuples(st.sampled_from(["read", "handle", "fail"]), partitions),
        st.tuples(
            st.just("rebalance"),
            st.lists(st.integers(0, WORKERS - 1), min_size=PARTITIONS, max_size=PARTITIONS),
        ),
    ),
    min_size=10,
    max_size=40,
)


@pytest.mark.parametrize("scan", KINDS)
@settings(max_examples=500)
@given(logs, actions)
def test_each_term_is_told_whatever_is_dropped_and_read_again(
    scan: str, logs: list[list[tuple[str, int]]], actions: list[tuple[str, object]]
) -> None:
    model = Model(logs, scan)
    for name, argument in actions:
        getattr(model, name)(argument)
    model.finish()

    assert {term for log in logs for term, _ in log} == model.told


@pytest.mark.parametrize("scan", KINDS)
@pytest.mark.parametrize("clears", [True, False])
def test_two_records_that_lost_one_another_would_rely_on_one_another(
    clears: bool, scan: str
) -> None:
    """What the caches are emptied for at a rebalance: without that, nobody tells the term."""
    model = Model([[("a", 0)], [("a", 0)], []], scan, clears=clears)
    model.read(0)
    model.read(1)
    model.rebalance([1, 1, 0])
    model.read(0)
    model.rebalance([0, 0, 0])
    model.finish()

    assert clears == ("a" in model.told)
