"""What is left out because it was forwarded lately, and what must not be."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from pipeline.engine.forwarded import Forwarded, ForwardedCache, NativeForwardedCache
from pipeline.engine.sighting import Sighting
from tests.scans import KINDS
from tests.sightings import sighting

CacheOf = Callable[..., Forwarded]


@pytest.fixture(params=KINDS)
def cache_of(request: pytest.FixtureRequest) -> CacheOf:
    """Make caches, in Python and not."""
    return NativeForwardedCache if request.param == "native" else ForwardedCache


def later(*arguments: object, offset: int = 2_000, **keywords: object) -> Sighting:
    """A sighting that follows those of `sighting` in their partition."""
    return sighting(*arguments, place=("events", 0, offset, 0), **keywords)


def test_a_sighting_is_covered_up_to_the_granularity_after_the_latest_forwarded(
    cache_of: CacheOf,
) -> None:
    cache = cache_of(granularity_ms=60)
    cache.remember(sighting(time_ms=100))
    cache.remember(sighting(time_ms=50))

    assert cache.covers(later(time_ms=160))
    assert cache.covers(later(time_ms=0))
    assert not cache.covers(later(time_ms=161))
    assert not cache.covers(later(b"b"))


@pytest.mark.parametrize(("later_ms", "covered"), [(0, True), (60, True), (61, False), (-1, False)])
def test_a_sighting_is_covered_for_the_granularity_whatever_its_date(
    cache_of: CacheOf, later_ms: int, covered: bool
) -> None:
    """#wrong-clocks: one that stands still is heard of once in a granularity, as all others are."""
    cache = cache_of(granularity_ms=60)
    cache.remember(sighting(time_ms=100, read_ms=1_000))

    assert covered == cache.covers(later(time_ms=100, read_ms=1_000 + later_ms))


@pytest.mark.parametrize("forwarded_again", [False, True])
def test_the_key_not_used_for_longest_is_forgotten_first(
    cache_of: CacheOf, forwarded_again: bool
) -> None:
    cache = cache_of(max_entries=2)
    cache.remember(sighting(b"a"))
    cache.remember(sighting(b"b"))
    if forwarded_again:
        cache.remember(sighting(b"a"))
    else:
        cache.covers(later(b"a"))
    cache.remember(sighting(b"c"))

    assert [True, False, True] == [cache.covers(later(key)) for key in (b"a", b"b", b"c")]
    assert 2 == len(cache)


@pytest.mark.parametrize(("window_ms", "covered"), [(60, False), (61, True)])
def test_a_history_within_the_granularity_is_not_for_the_cache(
    cache_of: CacheOf, window_ms: int, covered: bool
) -> None:
    cache = cache_of(granularity_ms=60)
    cache.remember(sighting(window_ms=window_ms))

    assert covered == cache.covers(later(window_ms=window_ms))


@pytest.mark.parametrize(
    ("place", "covered"),
    [
        (("events", 0, 1_000, 3), False),
        (("events", 0, 1_000, 2), False),
        (("events", 0, 999, 9), False),
        (("events", 0, 1_000, 4), True),
        (("events", 0, 1_001, 0), True),
        (("events", 1, 5, 0), True),
        (("others", 0, 5, 0), True),
    ],
    ids=repr,
)
def test_what_is_read_again_is_not_covered_by_itself_nor_by_what_followed_it(
    cache_of: CacheOf, place: tuple[str, int, int, int], covered: bool
) -> None:
    """It was forwarded, and may have been lost with the bundle it was in."""
    cache = cache_of()
    cache.remember(sighting(place=("events", 0, 1_000, 3)))

    assert covered == cache.covers(sighting(place=place))


def test_what_is_forwarded_again_covers_what_follows_it(cache_of: CacheOf) -> None:
    cache = cache_of()
    cache.remember(sighting(place=("events", 0, 1_000, 0)))
    cache.remember(sighting(place=("events", 0, 500, 0)))

    assert cache.covers(sighting(place=("events", 0, 501, 0)))
    assert not cache.covers(sighting(place=("events", 0, 500, 0)))


def test_nothing_is_covered_by_what_was_forgotten(cache_of: CacheOf) -> None:
    cache = cache_of()
    cache.remember(sighting())
    cache.clear()

    assert not cache.covers(later())
    assert 0 == len(cache)


def test_an_entry_holds_nothing_of_its_event() -> None:
    cache = ForwardedCache()
    cache.remember(sighting())

    (entry,) = cache._entries.values()
    assert {"latest_ms", "read_ms", "position", "index"} == set(msgspec.structs.asdict(entry))
