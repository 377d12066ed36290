"""One measurement: what a contestant reported, and whether it counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.benchmarks.statistics import significant


@dataclass(frozen=True)
class Measurement:
    """What one run of one contestant took.

    Attributes:
        contestant: its name.
        events: events handled between the two reports.
        cpu_seconds: CPU time of the process between them, user and system, all threads.
        wall_seconds: time between them.
        consumed: all events handled.
        found: what it counted.
        expected: what the generator says it should have counted.
        expected_consumed: how many events the topic holds.
        more: further figures.
    """

    contestant: str
    events: int
    cpu_seconds: float
    wall_seconds: float
    consumed: int
    found: int
    expected: int
    expected_consumed: int
    more: dict[str, float] = field(default_factory=dict)

    @property
    def void(self) -> str | None:
        """Why the measurement does not count; None if it does."""
        if self.consumed != self.expected_consumed:
            return f"consumed {self.consumed} events of {self.expected_consumed}"
        if self.found != self.expected:
            return f"found {self.found} events, the truth is {self.expected}"
        if self.events <= 0 or self.cpu_seconds <= 0:
            return f"{self.events} events in {self.cpu_seconds} CPU-seconds say nothing"
        return None

    @property
    def per_cpu_second(self) -> float:
        """Events per CPU-second."""
        return self.events / self.cpu_seconds

    @property
    def per_second(self) -> float:
        """Events per second of wall clock."""
        return self.events / self.wall_seconds

    def as_json(self) -> dict[str, object]:
        return {
            "events": self.events,
            "cpu_seconds": significant(self.cpu_seconds),
            "wall_seconds": significant(self.wall_seconds),
            "events_per_cpu_second": significant(self.per_cpu_second) if self.cpu_seconds else None,
            "microseconds_per_event": significant(1e6 * self.cpu_seconds / self.events)
            if self.events
            else None,
            "found": self.found,
            "void": self.void,
            **self.more,
        }


class UnavailableError(Exception):
    """A contestant cannot run here, or did not finish; the message says why."""
