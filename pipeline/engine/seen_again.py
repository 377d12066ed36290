"""Sightings of tuples that are known and stay so, without Python.

Where a rule is broad nearly all sightings say that a tuple was seen again. What that does to its
row is done by `firstseen-native`, for as many of them as follow one another; the first one of which
more may be to say is left to `FirstSeen.observe`, and so is each that is spelled in another way
than this version of firstseen spells it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.first_seen import FirstSeen
from pipeline.engine.tables import Table
from pipeline.engine.wire import Observation, observation_opening

if TYPE_CHECKING:
    import firstseen_native

_LATEST_MS: Final = 2**63 - 1
"""An event clock that stands later, because of a damaged row, is left to Python."""


class SeenAgain:
    """Observes such sightings. `firstseen-native` has to be installed."""

    def __init__(self) -> None:
        import firstseen_native  # noqa: PLC0415 - it need not be installed

        self._native: firstseen_native.Sightings = firstseen_native.Sightings()
        self._is_unknown = False

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
        clock, others = first_seen.clock, first_seen.set_apart(records[start].offset)
        if clock.latest_ms is not None and clock.latest_ms > _LATEST_MS:
            return 0
        count, clock.latest_ms, self._is_unknown = self._native.observe(
            records, start, committed, table, others, clock.latest_ms
        )
        return count

    def note_opening(self, observation: Observation) -> None:
        """Note how observations of a rule begin, if that was why the last one was left."""
        if not self._is_unknown:
            return
        rule, history, window_ms = observation.rule, observation.history, observation.window_ms
        opening = observation_opening(rule, history, window_ms)
        self._native.note_opening(opening, bytes.fromhex(history), window_ms)
