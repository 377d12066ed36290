from __future__ import annotations

from pipeline.engine.forwarded import ForwardedCache


def test_a_sighting_is_covered_up_to_the_granularity_after_the_latest_forwarded() -> None:
    cache = ForwardedCache(granularity_ms=60)
    cache.remember(b"a", 100)
    cache.remember(b"a", 50)

    assert cache.covers(b"a", 160)
    assert cache.covers(b"a", 0)
    assert not cache.covers(b"a", 161)
    assert not cache.covers(b"b", 0)


def test_the_key_not_used_for_longest_is_forgotten_first() -> None:
    cache = ForwardedCache(max_entries=2)
    cache.remember(b"a", 0)
    cache.remember(b"b", 0)
    cache.covers(b"a", 0)
    cache.remember(b"c", 0)

    assert [True, False, True] == [cache.covers(key, 0) for key in (b"a", b"b", b"c")]
    assert 2 == len(cache)


def test_a_history_within_the_granularity_is_not_for_the_cache() -> None:
    cache = ForwardedCache(granularity_ms=60)

    assert (False, True) == (cache.applies_to(60), cache.applies_to(61))


def test_what_is_forgotten_is_not_covered() -> None:
    cache = ForwardedCache()
    cache.remember(b"a", 0)
    cache.remember(b"b", 0)

    cache.forget(b"a")
    assert (False, True) == (cache.covers(b"a", 0), cache.covers(b"b", 0))
    cache.clear()
    assert 0 == len(cache)
