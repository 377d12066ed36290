"""First seen: the state that remembers term tuples and decides whether one is new or known.

The verdict itself is `pipeline.rules.history.is_new`: a tuple is new if and only if it is unknown,
or was last seen before the history that ends with this sighting. This module makes the verdict
survive crashes.

Why a replay gives the same verdicts
------------------------------------
All observations of a key are in one partition, so they arrive in a fixed order. Each key has one
row. The driver keeps two promises:

* It commits an offset only after the outputs of every observation before it, and the changelog
  records of the rows that those observations wrote, have been acknowledged.
* The `committed` that it passes to `FirstSeen.observe` never exceeds an offset that really is
  committed.

After a crash, a row may therefore be in any state between the last commit and the crash: the
changelog may have lost its tail, and a local copy of the table may be ahead of the changelog.
Processing starts again at the committed offset. For an observation at offset ``o`` there are two
cases:

* ``row.offset < o``, or no row: the row holds exactly what the observations of this key before
  ``o`` made of it, because rows are written in that order and each write replaces the whole row. So
  the verdict is the same as the first time, if there was a first time.
* ``o <= row.offset``: the row already includes this sighting. The row has moved on, so the verdict
  cannot be computed again; it is read from the row instead. A sighting that was judged new left a
  *stamp* ``(o, previous)`` in the row, and every later write carries the stamps along until they
  are below `committed`. If there is no stamp, the sighting was judged known. Either way the row
  keeps its content, except for stamps that have become committed, and is written once more, because
  the first changelog record may be the one that was lost.

A stamp that has been dropped is below a committed offset, so its observation is never read again
and nobody needs the stamp. It follows that each sighting that is new in the order of the log raises
an alert at least once. Every repetition has the same previous time, and is therefore the same
alert, byte for byte. No other sighting ever raises an alert. The stamps cost one pair for each
"new" verdict of the last commit interval.

The argument is about tuples that have a row. A tuple for which its rule has no room (see
`RowCounts`) gets none: each of its sightings is new. A replay judges such a sighting afresh, and
there may be room by then; if a later sighting of the tuple has got a row in the meantime, the
replay finds the earlier one known.

Learning and forgetting
-----------------------
`Learn` and `Forget` come through the same topic. They have a place in the order of the observations
and follow the same rule: they are applied once, at their offset, and a replay only writes the row
again. A forgotten tuple keeps its row for a while, with a count of 0. Later observations treat it
as absent, but a replay of earlier ones still finds its stamps. The sweep removes the row once its
offset is committed. A whole history is forgotten by a single mark: see `pipeline.engine.forgotten`.

A *held* history (`pipeline.engine.held`) is learning from the retained log. Its observations touch
no row, so the argument above does not concern them.

Offsets must never start over, or the new, low ones look like replays. So the table notes which
topic it belongs to, and no other is judged by it: see `pipeline.engine.source`.
"""

from __future__ import annotations

import msgspec

from pipeline.engine.event_clock import EventClock
from pipeline.engine.first_seen_rows import (
    ROW_FORMAT,
    Row,
    Stamps,
    decode_row,
    encode_row,
    shortened,
)
from pipeline.engine.forgotten import Forgotten
from pipeline.engine.held import Held
from pipeline.engine.row_counts import RowCounts
from pipeline.engine.tables import Table
from pipeline.engine.wire import Forget, Hold, Learn, Observation, Release
from pipeline.rules.history import is_new


class FirstSeenVerdict(msgspec.Struct, frozen=True, gc=False):
    """The verdict on one observation. Times are epoch milliseconds.

    Attributes:
        new: whether the tuple is new, so that an alert is due.
        repeated: whether this observation was applied before; the verdict is the one given then.
        previous_ms: when a new tuple was last seen before; None if it never was, and for a known
            tuple.
        first_ms: the earliest time since the tuple was last judged new.
        last_ms: the latest time, including this sighting.
        count: the number of sightings since the tuple was last judged new, including this one.
        remembered: False for a new tuple that was not stored because its rule already has as many
            rows as it may have. Its next sighting is new again.
        held: whether the observation was neither judged nor stored because its history is held. The
            other values then mean nothing.
    """

    new: bool
    repeated: bool
    previous_ms: int | None
    first_ms: int
    last_ms: int
    count: int
    remembered: bool = True
    held: bool = False


class FirstSeen:
    """Decides whether tuples are new or known, on a table keyed by `Observation.key`.

    Attributes:
        forgotten: the histories that were forgotten as a whole.
        held: the histories that are held.
        clock: the event clock of the table's partition.

    Args:
        table: the rows.
        row_counts: counts and limits the rows of each rule; None for no limit. A new tuple of a
            rule that has reached its limit raises an alert but is not remembered. So known tuples
            stay known, and no first sighting is missed.
    """

    def __init__(self, table: Table, row_counts: RowCounts | None = None) -> None:
        self._table = table
        self._row_counts = RowCounts() if row_counts is None else row_counts
        self.forgotten = Forgotten(table)
        self.held = Held(table)
        self.clock = EventClock()

    def observe(
        self, observation: Observation, offset: int, committed: int, key: bytes | None = None
    ) -> FirstSeenVerdict:
        """Apply one observation and return the verdict.

        Args:
            observation: the sighting.
            offset: the observation's offset in its partition.
            committed: an offset up to which (exclusive) this partition is known to be committed; 0
                is always safe.
            key: the observation's key, if the caller has it already.

        Raises:
            StateError: the tuple's row cannot be read.
        """
        self.clock.advance_to(observation.time_ms)
        key = observation.key() if key is None else key
        if self.held.holds(key, offset):
            return _HELD
        value = self._table.get(key)
        if value is None:
            return self._meet(key, observation, offset)
        row = decode_row(value)
        self.clock.advance_to(row.kept_from_ms)
        if offset <= row.offset:
            return self._repeat(key, row, observation, offset, committed)
        stamps = _uncommitted(row.stamps, committed)
        if self._is_forgotten(key, row):
            return self._begin(key, observation, offset, None, stamps)
        if is_new(row.last_ms, observation.time_ms, observation.window_ms):
            return self._begin(key, observation, offset, row.last_ms, stamps)
        last_ms = max(row.last_ms, observation.time_ms)
        row = Row(
            format=row.format,
            rule_id=row.rule_id,
            terms=row.terms,
            first_ms=min(row.first_ms, observation.time_ms),
            last_ms=last_ms,
            count=row.count + 1,
            offset=offset,
            stamps=stamps,
            window_ms=observation.window_ms,
            behind_ms=self.clock.ahead_of(last_ms),
        )
        self._table.put(key, encode_row(row))
        return FirstSeenVerdict(
            new=False,
            repeated=False,
            previous_ms=None,
            first_ms=row.first_ms,
            last_ms=row.last_ms,
            count=row.count,
        )

    def held_or_forgotten(self, offset: int) -> set[bytes]:
        """Return the histories that may have held or forgotten sightings at or after an offset."""
        return self.held.held_after(offset) | self.forgotten.histories()

    def learn(self, learned: Learn, offset: int, committed: int) -> bool:
        """Record that a tuple was seen elsewhere; doing so again changes nothing.

        Returns:
            False if there was no room for it, see `RowCounts`.

        Raises:
            StateError: the tuple's row cannot be read.
        """
        key = learned.key()
        value = self._table.get(key)
        row = None if value is None else decode_row(value)
        if row is None:
            if not self._row_counts.has_room(learned.rule_id):
                return False
            self._row_counts.added(key, learned.rule_id)
            row = _learned(learned, offset, ())
        elif offset > row.offset:
            stamps = _uncommitted(row.stamps, committed)
            if self._is_forgotten(key, row):
                row = _learned(learned, offset, stamps)
            else:
                last_ms = max(row.last_ms, learned.last_ms)
                row = msgspec.structs.replace(
                    row,
                    first_ms=min(row.first_ms, learned.first_ms),
                    last_ms=last_ms,
                    behind_ms=max(0, row.kept_from_ms - last_ms),
                    count=max(row.count, learned.count),
                    offset=offset,
                    stamps=stamps,
                    window_ms=learned.window_ms,
                )
        self._table.put(key, encode_row(row))
        return True

    def forget(self, forgotten: Forget, offset: int, committed: int) -> None:
        """Treat a tuple, or a whole history, as never seen.

        Raises:
            StateError: the tuple's row cannot be read.
        """
        if not forgotten.row:
            self.forgotten.mark(bytes.fromhex(forgotten.history), offset)
            return
        key = bytes.fromhex(forgotten.row)
        value = self._table.get(key)
        if value is None:
            return
        row = decode_row(value)
        if offset > row.offset:
            stamps = _uncommitted(row.stamps, committed)
            row = msgspec.structs.replace(row, count=0, offset=offset, stamps=stamps)
        self._table.put(key, encode_row(row))

    def hold(self, hold: Hold, offset: int, committed: int) -> None:
        """Ignore the sightings of a history from this offset on, until `release`."""
        self.held.hold(hold.rule_id, bytes.fromhex(hold.history), offset, committed)

    def release(self, release: Release, offset: int) -> None:
        """Judge the sightings of a held history again, from this offset on."""
        self.held.release(bytes.fromhex(release.history), offset)

    def _is_forgotten(self, key: bytes, row: Row) -> bool:
        return row.count == 0 or row.offset < self.forgotten.before(key)

    def _meet(self, key: bytes, observation: Observation, offset: int) -> FirstSeenVerdict:
        """Return the verdict on a tuple without a row: new, and remembered if there is room."""
        if not self._row_counts.has_room(observation.rule.id):
            return _new(observation, None, repeated=False, remembered=False)
        self._row_counts.added(key, observation.rule.id)
        return self._begin(key, observation, offset, None, ())

    def _begin(
        self,
        key: bytes,
        observation: Observation,
        offset: int,
        previous_ms: int | None,
        stamps: Stamps,
    ) -> FirstSeenVerdict:
        """Create or restart the tuple's row: this sighting is new."""
        row = Row(
            format=ROW_FORMAT,
            rule_id=observation.rule.id,
            terms=shortened(observation.terms),
            first_ms=observation.time_ms,
            last_ms=observation.time_ms,
            count=1,
            offset=offset,
            stamps=(*stamps, (offset, previous_ms)),
            window_ms=observation.window_ms,
            behind_ms=self.clock.ahead_of(observation.time_ms),
        )
        self._table.put(key, encode_row(row))
        return _new(observation, previous_ms, repeated=False)

    def _repeat(
        self, key: bytes, row: Row, observation: Observation, offset: int, committed: int
    ) -> FirstSeenVerdict:
        """Return the verdict on an observation that the row already includes."""
        stamps = _uncommitted(row.stamps, committed)
        self._table.put(key, encode_row(msgspec.structs.replace(row, stamps=stamps)))
        for stamped, previous_ms in row.stamps:
            if stamped == offset:
                return _new(observation, previous_ms, repeated=True)
        return FirstSeenVerdict(
            new=False,
            repeated=True,
            previous_ms=None,
            first_ms=row.first_ms,
            last_ms=row.last_ms,
            count=row.count,
        )


_HELD = FirstSeenVerdict(
    new=False, repeated=False, previous_ms=None, first_ms=0, last_ms=0, count=0, held=True
)


def _new(
    observation: Observation,
    previous_ms: int | None,
    *,
    repeated: bool,
    remembered: bool = True,
) -> FirstSeenVerdict:
    """Return the verdict *new*: the same at each replay, whatever the row says by then."""
    return FirstSeenVerdict(
        new=True,
        repeated=repeated,
        previous_ms=previous_ms,
        first_ms=observation.time_ms,
        last_ms=observation.time_ms,
        count=1,
        remembered=remembered,
    )


def _learned(learned: Learn, offset: int, stamps: Stamps) -> Row:
    return Row(
        format=ROW_FORMAT,
        rule_id=learned.rule_id,
        terms=shortened(learned.terms),
        first_ms=learned.first_ms,
        last_ms=learned.last_ms,
        count=max(learned.count, 1),
        offset=offset,
        stamps=stamps,
        window_ms=learned.window_ms,
    )


def _uncommitted(stamps: Stamps, committed: int) -> Stamps:
    if not stamps or stamps[0][0] >= committed:  # stamps are ordered by offset
        return stamps
    return tuple(stamp for stamp in stamps if stamp[0] >= committed)
