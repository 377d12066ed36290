"""What the match stage forwarded lately, so that it need not send the same sighting again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Protocol

import msgspec

from pipeline.engine.seen import RuleMatch, Seen
from pipeline.record import Position


class Forwarded(Protocol):
    """What was forwarded lately."""

    def covers(self, seen: Seen) -> bool:
        """Return whether a sighting is covered by one forwarded before."""

    def remember(self, seen: Seen) -> None:
        """Note that a sighting is forwarded."""

    def clear(self) -> None:
        """Forget everything, because what was forwarded may not have been handled."""

    def __len__(self) -> int: ...


class ForwardedCache:
    """A bounded memory of observation keys and the latest effective time forwarded for each.

    A broad rule may match millions of events with the same few terms. Once a sighting at time T
    is on its way, one at ``t <= T + granularity`` can be left out: the term is known at T, so it
    is not new at t, and the last seen time falls behind by the granularity at most. That holds only
    for histories longer than the granularity.

    One that came within the granularity, that is: a host whose clock was set back, or stands still,
    would be covered for as long as it takes to catch up, and its rows would leave the state, or
    a term that was forgotten on request would not be told, while it goes on being seen.

    A record may be left out at once, and committed before what it relies on is acknowledged: that
    will be read again, here or by another worker, should it be lost on its way. But then it must
    be forwarded again, whoever reads it. So it is not covered by itself, nor by what follows it in
    its partition; and where partitions may have been lost, or are to be read again, nothing is
    covered by what was forwarded before (`clear`). Else two records of two partitions could rely on
    one another, each in the worker that has lost the other one.

    It is a cache: forgetting an entry, or all of them in a crash, costs one more observation and
    nothing else.

    Args:
        max_entries: keys kept; the one not used for longest goes first.
        granularity_ms: how far behind last seen may fall, and how long an entry covers others.
    """

    def __init__(self, max_entries: int = 100_000, granularity_ms: int = 60_000) -> None:
        self._max_entries = max_entries
        self._granularity_ms = granularity_ms
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def covers(self, seen: Seen) -> bool:
        entry = self._entries.get(seen.key)
        if entry is None:
            return False
        self._entries.move_to_end(seen.key)
        match = seen.match
        granularity_ms = self._granularity_ms
        return (
            # A history no longer than the granularity could end between two sightings.
            match.window_ms > granularity_ms
            and match.time_ms <= entry.latest_ms + granularity_ms
            and 0 <= match.record.read_ms - entry.read_ms <= granularity_ms
            and not entry.may_be_read_again_after(match.record.position, match.document.index)
        )

    def remember(self, seen: Seen) -> None:
        match = seen.match
        known = self._entries.get(seen.key)
        self._entries[seen.key] = _Entry(
            latest_ms=match.time_ms if known is None else max(known.latest_ms, match.time_ms),
            read_ms=match.record.read_ms,
            position=match.record.position,
            index=match.document.index,
        )
        self._entries.move_to_end(seen.key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


class _Entry(msgspec.Struct, frozen=True, gc=False):
    """What covers later sightings.

    Attributes:
        latest_ms: the latest effective time forwarded.
        read_ms: when its event was read last.
        position: where the event stands that was forwarded last.
        index: the number of that event's document.
    """

    latest_ms: int
    read_ms: int
    position: Position
    index: int

    def may_be_read_again_after(self, other: Position, index: int) -> bool:
        """Whether the event that was forwarded is this one, or follows it in its partition."""
        own = self.position
        return (
            own.partition == other.partition
            and (own.offset, self.index) >= (other.offset, index)
            and own.topic == other.topic
        )


class NativeForwardedCache:
    """The same by `firstseen-native`, which has to be installed, as `ForwardedCache`.

    Attributes:
        cache: for other code that is not Python.
    """

    def __init__(self, max_entries: int = 100_000, granularity_ms: int = 60_000) -> None:
        import firstseen_native  # noqa: PLC0415 - it need not be installed

        self.cache: Any = firstseen_native.Forwarded(max_entries, granularity_ms)

    def covers(self, seen: Seen) -> bool:
        match = seen.match
        times = match.window_ms, match.time_ms, match.record.read_ms
        return bool(self.cache.covers(seen.key, *times, *_place(match)))

    def remember(self, seen: Seen) -> None:
        match = seen.match
        self.cache.remember(seen.key, match.time_ms, match.record.read_ms, *_place(match))

    def clear(self) -> None:
        self.cache.clear()

    def __len__(self) -> int:
        return len(self.cache)


def _place(match: RuleMatch) -> tuple[str, int, int, int]:
    """Return where a match stands: topic, partition, offset, number of the document."""
    position = match.record.position
    return position.topic, position.partition, position.offset, match.document.index
