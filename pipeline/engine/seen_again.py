"""Sightings of tuples that are known and stay known, handled without Python.

If a rule is broad, nearly all sightings say that a tuple was seen again. `firstseen-native` updates
the rows for a run of such sightings. It stops at the first one that may need more than that, and
leaves it to `FirstSeen.observe`. It also leaves any observation that is not encoded exactly as this
version of firstseen encodes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.first_seen import FirstSeen
from pipeline.engine.tables import Table
from pipeline.engine.wire import Observation, observation_opening

if TYPE_CHECKING:
    import firstseen_native

_LATEST_MS: Final = 2**63 - 1
"""An event clock beyond this, because of a damaged row, is left to Python."""


class SeenAgain:
    """Processes such sightings. `firstseen-native` has to be installed."""

    def __init__(self) -> None:
        import firstseen_native  # noqa: PLC0415 - it need not be installed

        self._native: firstseen_native.Sightings = firstseen_native.Sightings()
        self._is_unknown = False

    def observe(
        self, first_seen: FirstSeen, table: Table, records: list[Any], start: int, committed: int
    ) -> int:
        """Process a run of records, and return how many were processed.

        Args:
            first_seen: the state's judge.
            table: the rows.
            records: observations, as fetched.
            start: the index of the first one to process.
            committed: see `FirstSeen.observe`.

        Raises:
            StateError: a row cannot be read.
        """
        clock, others = first_seen.clock, first_seen.held_or_forgotten(records[start].offset)
        if clock.latest_ms is not None and clock.latest_ms > _LATEST_MS:
            return 0
        count, clock.latest_ms, self._is_unknown = self._native.observe(
            records, start, committed, table, others, clock.latest_ms
        )
        return count

    def note_opening(self, observation: Observation) -> None:
        """Note how observations of a rule begin, if that was why the last one was left over."""
        if not self._is_unknown:
            return
        rule, history, window_ms = observation.rule, observation.history, observation.window_ms
        opening = observation_opening(rule, history, window_ms)
        self._native.note_opening(opening, bytes.fromhex(history), window_ms)
