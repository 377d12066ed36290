"""Sweep: removes terms whose history has ended from the first-seen state, a few rows at a time.

A pass walks the rows of a partition in key order. It is divided into slices, which the driver
limits by rows, by removals and by time; each slice continues at the key where the last one ended.
None of this is persisted. After a restart, the first pass only looks: it counts the rows and finds
out how far event time has come. The passes after it remove rows. The rows of histories that were
forgotten as a whole are removed before a pass continues (`pipeline.engine.forgotten`); a single
forgotten tuple is removed by a pass.

A row is *expired* when its term was last seen longer ago than its history plus a grace period.

*Ago* is measured by the event clock of the partition (`pipeline.engine.event_clock`): from where
the clock stood at the last sighting, which the row records, to where it stands now, but never later
than the wall clock. This has three consequences:

* A replay of last month's events is judged by last month's time, and a partition in which nothing
  happens forgets nothing.
* The terms of a host whose clock is years behind are kept as long as any others. By the dates of
  its events alone, each term would be expired on arrival, would be removed as soon as nobody sees
  it for two passes, and would raise an alert again and again.
* One event from 2099 cannot empty the state, because effective times are capped at their arrival
  plus `state.max_future`.

Why it is sound
---------------
* A row is removed only if its last observation was committed before the *previous* pass began. Such
  an observation is never read again, so no replay needs the row or its stamps. It also means that a
  term that is being seen right now stays, whatever the dates of its events: a laptop that was away
  for a month sends a month of events in a few minutes, and each of its terms raises one alert.
* For every sighting that is not late by more than the grace period, an expired row gives the same
  verdict as no row: *new*. (Late compared with the host's earlier events: a clock that is behind
  but running makes no event late.) Only a later sighting can be judged differently once the row is
  gone, and then it is judged new. So a sweep may cause one alert too many, but never makes an
  unknown term known.
* The driver judges no sighting of a removed term before the changelog has acknowledged the removal.
  So a replay finds the row removed, as the first run did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final, NamedTuple

from pipeline.engine.event_clock import EventClock
from pipeline.engine.first_seen_rows import Row, decode_row
from pipeline.engine.forgotten import Forgotten
from pipeline.engine.identity import KEY_BYTES
from pipeline.engine.row_counts import RowCounts
from pipeline.engine.tables import Table

HOUR_MS: Final = 3_600_000
FULL_SHARE: Final = 0.9
"""With `forget_oldest`, a rule is brought back to this share of its limit."""


class Reason(StrEnum):
    """Why a row was removed."""

    EXPIRED = "expired"
    FORGOTTEN = "forgotten"
    OLDEST = "oldest"


class Removal(NamedTuple):
    """One row that was removed."""

    key: bytes
    rule_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """How rows are removed. Times are milliseconds.

    Attributes:
        grace_ms: how much longer than its history a term is kept; None if nothing expires.
        pause_ms: the pause between the end of a pass and the beginning of the next.
        forget_oldest: whether a rule that is near its limit loses its oldest terms early.
    """

    grace_ms: int | None = 86_400_000
    pause_ms: int = 600_000
    forget_oldest: bool = False


@dataclass(slots=True)
class _Surplus:
    """How many rows a rule has too many; only rows last seen before `before_ms` are removed."""

    rows: int
    before_ms: int


class Sweep:
    """Walks the rows of one partition, pass after pass.

    Args:
        table: the rows.
        row_counts: the number of rows of each rule; the first pass counts them.
        forgotten: the histories that were forgotten as a whole.
        clock: the partition's event clock; the rows advance it as well.
        settings: how rows are removed.
    """

    def __init__(
        self,
        table: Table,
        row_counts: RowCounts,
        forgotten: Forgotten,
        clock: EventClock,
        settings: SweepSettings,
    ) -> None:
        self._table = table
        self._row_counts = row_counts
        self._forgotten = forgotten
        self._clock = clock
        self._settings = settings
        self._position: bytes | None = None
        self._clearing: tuple[bytes, int] | None = None
        self._cleared_to = b""
        self._due_ms = 0
        self._begun_at = 0
        self._idle_below = 0
        self._ages: dict[str, Counter[int]] = {}
        self._surplus: dict[str, _Surplus] = {}
        self.passes = 0
        """The number of completed passes."""

    def step(
        self,
        now_ms: int,
        committed: int,
        *,
        rows: int,
        removals: int,
        enough: Callable[[], bool] = lambda: False,
    ) -> list[Removal]:
        """Look at the next rows, remove those that have to go, and return them.

        Args:
            now_ms: the wall clock, epoch milliseconds.
            committed: an offset up to which (exclusive) the partition is known to be committed.
            rows: the maximum number of rows to look at.
            removals: the maximum number of rows to remove.
            enough: called after each row; if it returns True, the rest is left to the next step.

        Raises:
            StateError: a row cannot be read.
        """
        due = self._forgotten.due(committed)
        if due is not None:
            return self._clear(due, rows, removals, enough)
        if self._position is None:
            if now_ms < self._due_ms:
                return []
            self._begin(committed)
        found, ended = self._walk(now_ms, committed, rows, removals, enough)
        self._remove(found)
        if ended:
            self._end(now_ms)
        return found

    def _clear(
        self, due: tuple[bytes, int], rows: int, removals: int, enough: Callable[[], bool]
    ) -> list[Removal]:
        """Remove the next rows of a forgotten history; after the last one, remove its mark."""
        history, before = due
        if due != self._clearing:
            self._clearing, self._cleared_to = due, history
        found: list[Removal] = []
        ended = False
        walk = self._table.items_from(self._cleared_to)
        for key, value in islice(walk, rows):
            if not key.startswith(history):
                ended = True
                break
            self._cleared_to = key + b"\0"
            row = decode_row(value) if len(key) == KEY_BYTES else None
            if row is not None and row.offset < before:
                found.append(Removal(key, row.rule_id, Reason.FORGOTTEN))
            if len(found) >= removals or enough():
                break
        else:
            ended = next(walk, None) is None
        self._remove(found)
        if ended:
            self._forgotten.cleared(history, before)
        return found

    def _remove(self, found: list[Removal]) -> None:
        for removal in found:
            self._table.delete(removal.key)
            self._row_counts.removed(removal.key, removal.rule_id)

    def _walk(
        self,
        now_ms: int,
        committed: int,
        rows: int,
        removals: int,
        enough: Callable[[], bool],
    ) -> tuple[list[Removal], bool]:
        """Return the next rows to remove, and whether the pass has reached the end."""
        found: list[Removal] = []
        walk = self._table.items_from(self._position or b"")
        for key, value in islice(walk, rows):
            self._position = key + b"\0"
            if len(key) == KEY_BYTES:
                row = decode_row(value)
                self._look(key, row)
                reason = self._reason(row, now_ms, committed)
                if reason is not None:
                    found.append(Removal(key, row.rule_id, reason))
            if len(found) >= removals or enough():
                return found, False
        return found, next(walk, None) is None

    def _begin(self, committed: int) -> None:
        self._position = b""
        self._idle_below, self._begun_at = self._begun_at, committed
        self._ages = {}

    def _end(self, now_ms: int) -> None:
        self._position = None
        self._row_counts.all_reached()
        self.passes += 1
        self._surplus = self._too_many() if self._settings.forget_oldest else {}
        # No pause while a rule has too many rows: its new terms may not be remembered meanwhile.
        self._due_ms = now_ms if self._surplus else now_ms + self._settings.pause_ms

    def _look(self, key: bytes, row: Row) -> None:
        self._clock.advance_to(row.kept_from_ms)
        self._row_counts.reached(key, row.rule_id)
        if self._settings.forget_oldest:
            self._ages.setdefault(row.rule_id, Counter())[row.kept_from_ms // HOUR_MS] += 1

    def _reason(self, row: Row, now_ms: int, committed: int) -> Reason | None:
        if row.count == 0 and row.offset < committed:
            return Reason.FORGOTTEN
        if row.offset >= self._idle_below:
            return None
        if self._expired(row, now_ms):
            return Reason.EXPIRED
        surplus = self._surplus.get(row.rule_id)
        if surplus is not None and surplus.rows > 0 and row.kept_from_ms < surplus.before_ms:
            surplus.rows -= 1
            return Reason.OLDEST
        return None

    def _expired(self, row: Row, now_ms: int) -> bool:
        grace = self._settings.grace_ms
        # A row without a history length was written by a version that did not store it.
        latest_ms = self._clock.latest_ms
        if grace is None or row.window_ms <= 0 or latest_ms is None:
            return False
        return row.kept_from_ms < min(latest_ms, now_ms) - row.window_ms - grace

    def _too_many(self) -> dict[str, _Surplus]:
        """Return, for each rule near its limit, how many of its oldest rows have to go."""
        limit = self._row_counts.limit
        if limit is None:
            return {}
        found = {}
        for rule_id, ages in self._ages.items():
            rows = self._row_counts.of(rule_id) - int(limit * FULL_SHARE)
            if rows > 0:
                found[rule_id] = _Surplus(rows, _time_of_oldest(ages, rows))
        return found


def _time_of_oldest(ages: Counter[int], rows: int) -> int:
    """Return the end of the hour in which the newest of the `rows` oldest rows was last seen."""
    left = rows
    for hour, count in sorted(ages.items()):
        left -= count
        if left <= 0:
            return (hour + 1) * HOUR_MS
    return (max(ages) + 1) * HOUR_MS
