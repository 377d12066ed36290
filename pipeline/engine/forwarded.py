"""What the match stage forwarded lately, so that it need not send the same sighting again."""

from __future__ import annotations

from collections import OrderedDict


class ForwardedCache:
    """A bounded memory of observation keys and the latest effective time forwarded for each.

    A broad rule may match millions of events with the same few terms. Once a sighting at time T
    is on its way, one at ``t <= T + granularity`` can be left out: the term is known at T, so it
    is not new at t, and the last seen time falls behind by the granularity at most. That holds
    for histories longer than the granularity; see `applies_to`.

    One that came within the granularity, that is: a host whose clock was set back, or stands still,
    would be covered for as long as it takes to catch up, and its rows would leave the state, or
    a term that was forgotten on request would not be told, while it goes on being seen.

    It is a cache: forgetting an entry, or all of them in a crash, costs one more observation and
    nothing else. The caller must not commit a record that was left out before the observation it
    relied on is acknowledged.

    Args:
        max_entries: keys kept; the one not used for longest goes first.
        granularity_ms: how far behind last seen may fall, and how long an entry covers others.
    """

    def __init__(self, max_entries: int = 100_000, granularity_ms: int = 60_000) -> None:
        self._max_entries = max_entries
        self._granularity_ms = granularity_ms
        # The latest effective time forwarded, and the moment at which that was.
        self._times: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    def applies_to(self, window_ms: int) -> bool:
        """Whether sightings in a history of this length may be left out at all."""
        return window_ms > self._granularity_ms

    def covers(self, key: bytes, time_ms: int, now_ms: int) -> bool:
        """Return whether a sighting is covered by one forwarded before.

        Args:
            key: its tuple's.
            time_ms: its effective time.
            now_ms: the wall clock.
        """
        known = self._times.get(key)
        if known is None:
            return False
        self._times.move_to_end(key)
        latest_ms, at_ms = known
        granularity = self._granularity_ms
        return time_ms <= latest_ms + granularity and 0 <= now_ms - at_ms <= granularity

    def remember(self, key: bytes, time_ms: int, now_ms: int) -> None:
        """Note that a sighting was forwarded; the arguments are those of `covers`."""
        known = self._times.get(key)
        self._times[key] = (time_ms if known is None else max(known[0], time_ms), now_ms)
        self._times.move_to_end(key)
        if len(self._times) > self._max_entries:
            self._times.popitem(last=False)

    def forget(self, key: bytes) -> None:
        """Drop a key, for instance because its observation was not acknowledged."""
        self._times.pop(key, None)

    def clear(self) -> None:
        """Drop everything."""
        self._times.clear()

    def __len__(self) -> int:
        return len(self._times)
