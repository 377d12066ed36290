"""Sightings of tuples that are known and stay so, without Python.

Where a rule is broad nearly all sightings say that a tuple was seen again. What that does to its
row is done by `firstseen-native`, for as many of them as follow one another; the first one of which
more may be to say is left to `FirstSeen.observe`, and so is each that is spelled in another way
than this version of firstseen spells it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.engine.first_seen import FirstSeen
from pipeline.engine.tables import Table
from pipeline.engine.wire import Observation, RuleRef, observation_opening

if TYPE_CHECKING:
    import firstseen_native

_MOST_OPENINGS = 4_096


class SeenAgain:
    """Observes such sightings. `firstseen-native` has to be installed."""

    def __init__(self) -> None:
        import firstseen_native  # noqa: PLC0415 - it need not be installed

        self._native: firstseen_native.Sightings = firstseen_native.Sightings()
        self._learned: set[tuple[RuleRef, str, int]] = set()

    def learn(self, observation: Observation) -> None:
        """Note how observations begin: those of the same rule are read from here on."""
        rule, history, window_ms = observation.rule, observation.history, observation.window_ms
        if (rule, history, window_ms) in self._learned:
            return
        if len(self._learned) >= _MOST_OPENINGS:
            self._learned.clear()
        self._learned.add((rule, history, window_ms))
        opening = observation_opening(rule, history, window_ms)
        self._native.learn(opening, bytes.fromhex(history), window_ms)

    def observe(
        self, first_seen: FirstSeen, table: Table, records: list[Any], start: int, committed: int
    ) -> int:
        """Observe records that follow one another, and return how many it was.

        Args:
            first_seen: who judges by the table.
            table: the rows.
            records: observations, as they were fetched.
            start: number of the first one.
            committed: see `FirstSeen.observe`.

        Raises:
            StateError: a row cannot be read.
        """
        others, clock = first_seen.set_apart(records[start].offset), first_seen.clock
        count, clock.latest_ms = self._native.observe(
            records, start, committed, table, others, clock.latest_ms
        )
        return count
