from __future__ import annotations

import pytest

from pipeline.engine.forwarded import ForwardedCache


def test_a_sighting_is_covered_up_to_the_granularity_after_the_latest_forwarded() -> None:
    cache = ForwardedCache(granularity_ms=60)
    cache.remember(b"a", 100, 0)
    cache.remember(b"a", 50, 0)

    assert cache.covers(b"a", 160, 0)
    assert cache.covers(b"a", 0, 0)
    assert not cache.covers(b"a", 161, 0)
    assert not cache.covers(b"b", 0, 0)


@pytest.mark.parametrize(("later_ms", "covered"), [(0, True), (60, True), (61, False), (-1, False)])
def test_a_sighting_is_covered_for_the_granularity_whatever_its_date(
    later_ms: int, covered: bool
) -> None:
    """#wrong-clocks: one that stands still is heard of once in a granularity, as all others are."""
    cache = ForwardedCache(granularity_ms=60)
    cache.remember(b"a", 100, 1_000)

    assert covered == cache.covers(b"a", 100, 1_000 + later_ms)


def test_the_key_not_used_for_longest_is_forgotten_first() -> None:
    cache = ForwardedCache(max_entries=2)
    cache.remember(b"a", 0, 0)
    cache.remember(b"b", 0, 0)
    cache.covers(b"a", 0, 0)
    cache.remember(b"c", 0, 0)

    assert [True, False, True] == [cache.covers(key, 0, 0) for key in (b"a", b"b", b"c")]
    assert 2 == len(cache)


def test_a_history_within_the_granularity_is_not_for_the_cache() -> None:
    cache = ForwardedCache(granularity_ms=60)

    assert (False, True) == (cache.applies_to(60), cache.applies_to(61))


def test_what_is_forgotten_is_not_covered() -> None:
    cache = ForwardedCache()
    cache.remember(b"a", 0, 0)
    cache.remember(b"b", 0, 0)

    cache.forget(b"a")
    assert (False, True) == (cache.covers(b"a", 0, 0), cache.covers(b"b", 0, 0))
    cache.clear()
    assert 0 == len(cache)
