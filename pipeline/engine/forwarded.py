"""What the match stage forwarded lately, so that it need not send the same sighting again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Protocol

import msgspec

from pipeline.engine.sighting import RuleMatch, Sighting
from pipeline.record import Position


class Forwarded(Protocol):
    """A memory of the sightings that were forwarded lately."""

    def covers(self, sighting: Sighting) -> bool:
        """Return whether an earlier forwarded sighting makes it unnecessary to forward this one."""

    def remember(self, sighting: Sighting) -> None:
        """Record that a sighting is being forwarded."""

    def clear(self) -> None:
        """Forget everything, because what was forwarded may not have been processed."""

    def __len__(self) -> int: ...


class ForwardedCache:
    """A bounded memory of observation keys, with the latest effective time forwarded for each.

    A broad rule may match millions of events with the same few terms. Once a sighting at time T is
    on its way, one at ``t <= T + granularity`` can be left out. The term is known at T, so it is
    not new at t, and its last-seen time falls behind by the granularity at most. This holds only
    for histories longer than the granularity.

    An entry covers only events that are read within the granularity after its own. Otherwise a host
    whose clock was set back, or stands still, would be covered until its clock has caught up. In
    the meantime its rows would leave the state although their terms are still being seen, and a
    term that was forgotten on request would raise no alert.

    A record that was left out may be committed before the observation it relies on has been
    acknowledged. If that observation is lost on its way, its event is read again, by this worker or
    another, and whoever reads it must forward it again. Two rules ensure this:

    * An event is covered neither by itself nor by an event after it in its partition.
    * When partitions may have been lost, or are about to be read again, nothing is covered by what
      was forwarded before (`clear`). Otherwise two records in two partitions could rely on each
      other, each in the worker that has lost the other's partition.

    This is only a cache: losing one entry, or all of them in a crash, costs nothing but another
    observation.

    Args:
        max_entries: how many keys are kept; the least recently used goes first.
        granularity_ms: how far last-seen times may fall behind, and how long an entry covers
            others.
    """

    def __init__(self, max_entries: int = 100_000, granularity_ms: int = 60_000) -> None:
        self._max_entries = max_entries
        self._granularity_ms = granularity_ms
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def covers(self, sighting: Sighting) -> bool:
        entry = self._entries.get(sighting.key)
        if entry is None:
            return False
        self._entries.move_to_end(sighting.key)
        match = sighting.match
        granularity_ms = self._granularity_ms
        return (
            # A history no longer than the granularity could end between two sightings.
            match.window_ms > granularity_ms
            and match.time_ms <= entry.latest_ms + granularity_ms
            and 0 <= match.record.read_ms - entry.read_ms <= granularity_ms
            and not entry.may_be_read_again_after(match.record.position, match.document.index)
        )

    def remember(self, sighting: Sighting) -> None:
        match = sighting.match
        known = self._entries.get(sighting.key)
        self._entries[sighting.key] = _Entry(
            latest_ms=match.time_ms if known is None else max(known.latest_ms, match.time_ms),
            read_ms=match.record.read_ms,
            position=match.record.position,
            index=match.document.index,
        )
        self._entries.move_to_end(sighting.key)
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
        read_ms: when the last forwarded event was read.
        position: the position of the last forwarded event.
        index: the number of that event's document in its record.
    """

    latest_ms: int
    read_ms: int
    position: Position
    index: int

    def may_be_read_again_after(self, other: Position, index: int) -> bool:
        """Whether the forwarded event is this one, or comes after it in the same partition."""
        own = self.position
        return (
            own.partition == other.partition
            and (own.offset, self.index) >= (other.offset, index)
            and own.topic == other.topic
        )


class NativeForwardedCache:
    """A `ForwardedCache` implemented by `firstseen-native`, which has to be installed.

    Attributes:
        cache: the native object, for other native code.
    """

    def __init__(self, max_entries: int = 100_000, granularity_ms: int = 60_000) -> None:
        import firstseen_native  # noqa: PLC0415 - it need not be installed

        self.cache: Any = firstseen_native.Forwarded(max_entries, granularity_ms)

    def covers(self, sighting: Sighting) -> bool:
        match = sighting.match
        times = match.window_ms, match.time_ms, match.record.read_ms
        return bool(self.cache.covers(sighting.key, *times, *_place(match)))

    def remember(self, sighting: Sighting) -> None:
        match = sighting.match
        self.cache.remember(sighting.key, match.time_ms, match.record.read_ms, *_place(match))

    def clear(self) -> None:
        self.cache.clear()

    def __len__(self) -> int:
        return len(self.cache)


def _place(match: RuleMatch) -> tuple[str, int, int, int]:
    """Return the position of a match: topic, partition, offset and document number."""
    position = match.record.position
    return position.topic, position.partition, position.offset, match.document.index
