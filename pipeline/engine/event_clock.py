"""The event clock: how far the time of the events has come in one partition of the observations."""

from __future__ import annotations


class EventClock:
    """Stands at the latest effective time seen, and never goes back.

    Sightings of all hosts meet in a partition, since its keys are hashes. So the clock stands near
    the present while events come live and near their past while old ones are read, whatever the
    clock of a single host says: one that is ahead counts with its arrival plus `state.max_future`
    at most, and one that is behind does not move it. It is not kept: after a start it comes to its
    place with the first sightings, and with the rows that are read.

    Attributes:
        latest_ms: epoch milliseconds; None before the first sighting or row.
    """

    def __init__(self) -> None:
        self.latest_ms: int | None = None

    def seen(self, time_ms: int) -> None:
        """Note the effective time of a sighting."""
        if self.latest_ms is None or time_ms > self.latest_ms:
            self.latest_ms = time_ms

    def ahead_of(self, time_ms: int) -> int:
        """Return by how many milliseconds the clock is ahead of a time; 0 if it is not."""
        return 0 if self.latest_ms is None else max(0, self.latest_ms - time_ms)
