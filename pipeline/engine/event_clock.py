"""The event clock: how far event time has advanced in one partition of the observations topic."""

from __future__ import annotations


class EventClock:
    """A clock that stands at the latest effective time seen, and never goes back.

    The keys of a partition are hashes, so it holds sightings of all hosts. The clock is therefore
    close to the present while live events arrive, and close to the events' past while old ones are
    read, whatever the clock of a single host says. A host whose clock is ahead advances it at most
    to the event's arrival plus `state.max_future`; one whose clock is behind does not move it. The
    event clock is not persisted: after a restart, the first sightings and the rows that are read
    set it again.

    Attributes:
        latest_ms: epoch milliseconds; None before the first sighting or row.
    """

    def __init__(self) -> None:
        self.latest_ms: int | None = None

    def advance_to(self, time_ms: int) -> None:
        """Advance the clock to the effective time of a sighting, if that is later."""
        if self.latest_ms is None or time_ms > self.latest_ms:
            self.latest_ms = time_ms

    def ahead_of(self, time_ms: int) -> int:
        """Return how many milliseconds the clock is ahead of a time; 0 if it is not."""
        return 0 if self.latest_ms is None else max(0, self.latest_ms - time_ms)
