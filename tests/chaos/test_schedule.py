"""The faults of a run follow from its seed, and no kind is left out."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.schedule import Kind, make_schedule


def test_the_same_seed_gives_the_same_faults():
    assert make_schedule(20, 60.0, seed=7) == make_schedule(20, 60.0, seed=7)
    assert make_schedule(20, 60.0, seed=7) != make_schedule(20, 60.0, seed=8)


@pytest.mark.parametrize("count", [20, 40])
def test_every_kind_comes_and_the_rest_are_kills(count: int):
    kinds = Counter(fault.kind for fault in make_schedule(count, 60.0, seed=3))

    assert set(kinds) == set(Kind)
    assert kinds[Kind.KILL] == max(kinds.values())


def test_a_short_run_has_as_many_faults_as_were_asked_for():
    assert len(make_schedule(5, 60.0, seed=3)) == 5


def test_only_the_kinds_that_were_asked_for_come():
    only = frozenset({Kind.ZOMBIE, Kind.GAP})
    kinds = Counter(fault.kind for fault in make_schedule(7, 60.0, seed=3, only=only))

    assert kinds in ({Kind.ZOMBIE: 3, Kind.GAP: 4}, {Kind.ZOMBIE: 4, Kind.GAP: 3})


def test_faults_come_in_order_within_the_time():
    moments = [fault.at for fault in make_schedule(50, 60.0, seed=3)]

    assert moments == sorted(moments)
    assert moments[0] >= 0.0
    assert moments[-1] <= 60.0
