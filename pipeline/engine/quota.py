"""Quota: at most ``max_signals`` alerts of a rule in each window of ``interval``; nothing dropped.

Windows are aligned to the epoch in processing time. The first ``max_signals`` candidates of a
window become alerts, the rest go to the overflow topic in full, and the window closes with one
summary alert if it overflowed. (Kibana cuts a run's alerts at ``max_signals`` and forgets the
rest.) An alert id that was decided before is a duplicate and has no output.

What is written, and in which order
-----------------------------------
The table holds for each rule a *window row*, with the counters and the offset of the last
candidate counted, and for each alert an *id row*, with what was decided and at which offset. A
summary has an id row too, with its bytes. One candidate writes at most: the start row of its
history (`pipeline.engine.learning`), the summary's id row, its own id row, the window row, in this
order. A candidate of a history that is learning counts in no window and writes no window row.

The driver keeps three promises: candidates of a rule come in one order (the topic is keyed by
rule); an output is sent only after every write made until then is acknowledged by the changelog;
an offset is committed only after its outputs are acknowledged. A changelog keeps the order of
writes, so after a crash the table is some prefix of the writes, never shorter than what outputs
were sent for, or a local copy further ahead, with some rows put back to what the changelog holds.
Processing starts again at the committed offset.

*First of all the changelog gets what only the local copy may have* (`_catch_up`): every row that
was written for the first record read, or for a later one, is put again, the id rows in order of
their offsets and the window rows last, as they were first written. Whatever is decided from then
on rests on a changelog that lacks nothing the table has, so the argument below holds for a second
crash as for the first. (Put again one at a time as their candidates are replayed, the id rows of
some could be committed while the window row that counts them is not there.)

At candidate ``o``:

1. *No id row.* The crash came before the id row's write was acknowledged, so nothing was sent for
   ``o``, and the window row, written later, does not count it. It is decided now, as if for the
   first time; the clock may have moved to another window, which harms nobody.
2. *Id row of offset ``o``, window row before ``o``.* The crash fell between the two writes. The
   verdict is the id row's; the window row is brought up to date with it, opening the id row's
   window (and closing the one before, with the same summary) if need be.
3. *Id row of offset ``o``, window row at or after ``o``.* All of it is written. The verdict is the
   id row's.
4. *Id row of another offset.* A duplicate: no write, no output. If that other offset's outputs
   were never sent, then it is not committed, and being earlier it has just been replayed.

Ticks (`CloseWindow`) go through the same topic and are decided likewise, with the summary's id row
as theirs. A tick that decided nothing has left no row; it is known by an id row of a later offset,
and decides nothing again: by now its window may be over, but the candidates between it and that
later offset are decided, and some of them count in that window. So an output can be repeated, under
its own id and to its own destination, and it is never lost and never sent to both. A window row
written after a window's summary is marked closed or belongs to a later window, which is why there
is one summary.

An id row is deleted once it is older than `dedupe_ms`, or there are more than `max_ids`, and its
offset is committed: no replay asks for it. Without the second bound a flood of new terms would fill
memory and disk for a day, since each has an id, told or not. An event that is delivered again later
than that may be alerted again, under the same id.

Clocks
------
Workers' clocks differ. A window goes on while a clock stands before its start, so that no window is
entered twice. But a worker whose clock is hours ahead would leave a window behind that no other
worker could end for hours: after the first `max_signals` everything would go to the overflow, and
the summary would wait. So a window that starts more than `max_ahead_ms` after this worker's now was
opened by a wrong clock: it is *dated anew*, as the present one, with the candidates it holds. None
of them is told of twice or in no summary. No window is given a start that an earlier summary names,
since a summary's id is made of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from struct import Struct
from typing import Final

import msgspec

from pipeline.engine.alert import build_summary
from pipeline.engine.identity import summary_id
from pipeline.engine.learning import START, LearningPeriods, mark_learning
from pipeline.engine.quota_rows import (
    ROW_FORMAT,
    IdRow,
    StartRow,
    WindowRow,
    decode_id,
    decode_start,
    decode_window,
    encode_row,
)
from pipeline.engine.tables import Table
from pipeline.engine.wire import CloseWindow, NewTerm, RuleRef
from pipeline.types import Term

DELETIONS: Final = 2
"""Expired id rows deleted with each candidate: the table shrinks twice as fast as it grows."""
SAMPLE_CHARACTERS: Final = 512
"""A summary shows this much of a text term: a window row has to fit one changelog record."""
MAX_AHEAD_MS: Final = 300_000
"""Clocks of workers that differ by no more than this share their windows."""

MAX_IDS: Final = 250_000
"""Id rows kept in a partition; each takes some 100 bytes of memory."""

_WINDOW = b"w"
_ID = b"i"
_AGE: Final = Struct("qq")
_NOTHING: Final = -1
"""An offset before all others."""


class Verdict(StrEnum):
    """What the quota decides on a candidate."""

    ALERT = "alert"
    OVERFLOW = "overflow"
    LEARNING = "learning"
    DUPLICATE = "duplicate"


class Output(msgspec.Struct, frozen=True, gc=False):
    """One document to send.

    Attributes:
        destination: ``"alerts"`` or ``"overflow"``.
        key: the alert id, as bytes: the key of the record.
        value: the document.
        rule_id: the rule that raised it.
        summary: it is the summary of a window.
        source_timestamp_ms: timestamp of the source record; None for a summary.
        learning: it is in the overflow because its history is learning.
    """

    destination: str
    key: bytes
    value: bytes
    rule_id: str
    summary: bool
    source_timestamp_ms: int | None
    learning: bool = False


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The one answer to one candidate or tick.

    Attributes:
        verdict: what was decided; for a tick, ALERT if it raised a summary, else DUPLICATE.
        repeated: it had been decided before, and this is that decision.
        outputs: what to send, once the state is acknowledged.
    """

    verdict: Verdict
    repeated: bool
    outputs: tuple[Output, ...]


_NO_OUTPUT: Final = Decision(Verdict.DUPLICATE, repeated=False, outputs=())


class Quota:
    """Decides alert, overflow or duplicate.

    Args:
        table: the state; keys are ``w`` + rule id, ``i`` + alert id and ``l`` + history id.
        dedupe_ms: how long an alert id is remembered.
        max_ids: how many ids are remembered in a partition, the latest ones.
        sample: how many overflowing tuples a summary names.
        learning: how long rules learn before they tell; None: none does.
        max_ahead_ms: how far ahead of this worker's clock a window may start.
    """

    def __init__(
        self,
        table: Table,
        *,
        dedupe_ms: int = 86_400_000,
        max_ids: int = MAX_IDS,
        sample: int = 10,
        learning: LearningPeriods | None = None,
        max_ahead_ms: int = MAX_AHEAD_MS,
    ) -> None:
        self._table = table
        self._learning = LearningPeriods() if learning is None else learning
        self._dedupe_ms = dedupe_ms
        self._max_ids = max_ids
        self._sample = sample
        self._max_ahead_ms = max_ahead_ms
        # In memory, and rebuilt by recover(): per partition the id rows in order of their age,
        # the windows that will need a summary, the other rows until the first record is read, and
        # the last offset of which there was an id row then.
        self._expiring: dict[int, deque[bytes]] = {}
        self._open: dict[int, dict[str, WindowRow]] = {}
        self._recovered: dict[int, list[tuple[bytes, WindowRow | StartRow]]] = {}
        self._decided_before: dict[int, int] = {}
        self._last_window: tuple[bytes | None, WindowRow | None] = (None, None)

    def admit(
        self, new_term: NewTerm, offset: int, partition: int, now_ms: int, committed: int
    ) -> Decision:
        """Decide on one candidate.

        Args:
            new_term: the candidate.
            offset: its offset.
            partition: its partition.
            now_ms: processing time, epoch milliseconds.
            committed: an offset up to which (exclusive) this partition is known to be committed;
                0 is always safe.

        Raises:
            StateError: a row cannot be read.
        """
        self._catch_up(partition, offset)
        self._delete_expired(partition, now_ms, committed)
        decided = self._id_row(new_term.alert_id)
        if decided is not None and decided.offset != offset:
            return _NO_OUTPUT
        learns_until_ms = self._learns_until(new_term, offset, decided)
        if decided is not None and decided.verdict == Verdict.LEARNING:
            return _learned(new_term, decided.end_ms, repeated=True)
        if decided is None and learns_until_ms is not None:
            return self._learn(new_term, offset, partition, now_ms, learns_until_ms)
        window = self._window_row(new_term.rule.id)
        if decided is None:
            return self._decide(new_term, offset, partition, now_ms, window)
        return self._repeat(new_term, offset, partition, window, decided)

    def close(
        self, tick: CloseWindow, offset: int, partition: int, now_ms: int, committed: int
    ) -> Decision:
        """Raise the summary of a window that is over, if it overflowed and has none.

        The arguments are those of `admit`. A tick that comes before the end of its window (by
        this worker's clock) or after its summary decides nothing. A window that is too far ahead is
        dated anew, so that its end comes.

        Raises:
            StateError: a row cannot be read.
        """
        self._catch_up(partition, offset)
        self._delete_expired(partition, now_ms, committed)
        window = self._window_row(tick.rule.id)
        decided = self._id_row(summary_id(tick.rule.id, tick.window_start_ms))
        if decided is not None and decided.offset == offset and decided.value is not None:
            return self._repeat_close(tick, offset, partition, window, decided)
        if (
            offset <= self._decided_before.get(partition, _NOTHING)
            or window is None
            or window.start_ms != tick.window_start_ms
            or not window.awaits_summary
        ):
            return _NO_OUTPUT
        if now_ms >= window.end_ms:
            output = self._summarise(window, offset, partition, now_ms)
            self._put_window(partition, msgspec.structs.replace(window, offset=offset, closed=True))
            return Decision(Verdict.ALERT, repeated=False, outputs=(output,))
        if self._is_too_far_ahead(window.start_ms, now_ms):
            window = self._dated_anew(window, tick.rule, now_ms)
            self._put_window(partition, msgspec.structs.replace(window, offset=offset))
        return _NO_OUTPUT

    def recover(self, partition: int, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Rebuild what is kept in memory about a partition from its rows.

        Raises:
            StateError: a row cannot be read.
        """
        ages = []
        windows = {}
        others: list[tuple[bytes, WindowRow | StartRow]] = []
        for key, value in items:
            if key[:1] == _ID:
                row = decode_id(value)
                ages.append(_aged(row.decided_ms, row.offset, key))
            elif key[:1] == _WINDOW:
                window = decode_window(value)
                others.append((key, window))
                if window.awaits_summary:
                    windows[window.rule.id] = window
            elif key[:1] == START:
                others.append((key, decode_start(value)))
        self._expiring[partition] = deque(sorted(ages, key=_age))
        self._open[partition] = windows
        self._recovered[partition] = others

    def forget(self, partition: int) -> None:
        """Drop what is kept in memory about a partition that belongs to another worker now."""
        for kept in (self._expiring, self._open, self._recovered, self._decided_before):
            kept.pop(partition, None)

    def rows_of(self, candidates: Iterable[NewTerm | CloseWindow]) -> set[bytes]:
        """Return the keys of the rows that are about to be read for candidates and ticks."""
        keys: set[bytes] = set()
        for candidate in candidates:
            keys.add(_window_key(candidate.rule.id))
            if isinstance(candidate, CloseWindow):
                keys.add(_id_key(summary_id(candidate.rule.id, candidate.window_start_ms)))
            else:
                keys.add(_id_key(candidate.alert_id))
                keys.add(_start_key(candidate.history))
        return keys

    def ended(self, now_ms: int) -> list[tuple[int, CloseWindow]]:
        """Return (partition, tick) for each window that awaits its summary and needs a tick.

        That is one that is over, or too far ahead. The driver sends the ticks through the new-terms
        topic. It may ask, and send, more often than needed: a second tick for a window does
        nothing.
        """
        return [
            (partition, CloseWindow(rule=window.rule, window_start_ms=window.start_ms))
            for partition, windows in self._open.items()
            for window in windows.values()
            if window.end_ms <= now_ms or self._is_too_far_ahead(window.start_ms, now_ms)
        ]

    def _catch_up(self, partition: int, offset: int) -> None:
        """Put again what was written for this offset, the first one read, or for a later one."""
        others = self._recovered.pop(partition, None)
        if others is None:
            return
        ids = []
        for _, written_at, key in map(_age, self._expiring.get(partition, ())):
            value = self._table.get(key) if written_at >= offset else None
            if value is not None:
                # A summary goes ahead of the candidate that raised it.
                ids.append((written_at, decode_id(value).value is None, key, value))
        ids.sort()
        for key, row in others:
            if isinstance(row, StartRow) and row.changed_at >= offset:
                self._table.put(key, encode_row(row))
        for _, _, key, value in ids:
            self._table.put(key, value)
        for key, row in others:
            if isinstance(row, WindowRow) and row.offset >= offset:
                self._table.put(key, encode_row(row))
        self._decided_before[partition] = ids[-1][0] if ids else _NOTHING

    def _learns_until(self, new_term: NewTerm, offset: int, decided: IdRow | None) -> int | None:
        """Return when a candidate's history begins to tell, or None if it does.

        The candidate with which it begins is noted, and that with which learning is over: the first
        at which the event clock has come to the end of the period. What comes later and is dated
        earlier is told as well.
        """
        if not new_term.history:
            return None
        key = _start_key(new_term.history)
        value = self._table.get(key)
        before = None if value is None else decode_start(value)
        reached_ms = max(new_term.time_ms, new_term.clock_ms)
        row = before or StartRow(ROW_FORMAT, new_term.rule.id, reached_ms, offset)
        period_ms = self._learning.of(new_term.rule.id)
        until_ms = row.start_ms + period_ms
        told = decided is not None and decided.verdict != Verdict.LEARNING
        if row.ended is None and (told or not period_ms or reached_ms >= until_ms):
            row = msgspec.structs.replace(row, ended=offset)
        if row is not before:
            self._table.put(key, encode_row(row))
        return until_ms if row.ended is None or offset < row.ended else None

    def _learn(
        self, new_term: NewTerm, offset: int, partition: int, now_ms: int, until_ms: int
    ) -> Decision:
        """Decide on a candidate of a history that is learning; its id row keeps the end of that."""
        row = IdRow(
            format=ROW_FORMAT,
            offset=offset,
            verdict=Verdict.LEARNING.value,
            start_ms=new_term.time_ms,
            end_ms=until_ms,
            decided_ms=now_ms,
        )
        self._put_id(partition, new_term.alert_id, row)
        return _learned(new_term, until_ms, repeated=False)

    def _decide(
        self,
        new_term: NewTerm,
        offset: int,
        partition: int,
        now_ms: int,
        window: WindowRow | None,
    ) -> Decision:
        """Case 1: the first decision on this candidate, or the first that was not lost."""
        running = self._running(window, new_term.rule, now_ms)
        summary = None
        if running is None:
            if window is not None and window.awaits_summary:
                summary = self._summarise(window, offset, partition, now_ms)
            running = self._opened(window, new_term.rule, now_ms)
        verdict = Verdict.ALERT if running.alerted < new_term.rule.max_signals else Verdict.OVERFLOW
        row = IdRow(
            format=ROW_FORMAT,
            offset=offset,
            verdict=verdict.value,
            start_ms=running.start_ms,
            end_ms=running.end_ms,
            decided_ms=now_ms,
            summary=None if summary is None else summary.key.decode(),
        )
        self._put_id(partition, new_term.alert_id, row)
        self._put_window(partition, self._counted(running, new_term, offset, verdict))
        told = _output(new_term, verdict)
        return Decision(
            verdict, repeated=False, outputs=(told,) if summary is None else (summary, told)
        )

    def _repeat(
        self,
        new_term: NewTerm,
        offset: int,
        partition: int,
        window: WindowRow | None,
        decided: IdRow,
    ) -> Decision:
        """Cases 2 and 3: the decision is in the id row."""
        verdict = Verdict(decided.verdict)
        if window is None or window.offset < offset:
            if window is None or window.closed or window.start_ms < decided.start_ms:
                window = WindowRow(ROW_FORMAT, new_term.rule, decided.start_ms, decided.end_ms)
            else:
                window = _dated_as(window, decided)
            self._put_window(partition, self._counted(window, new_term, offset, verdict))
        outputs = (*self._raised(decided, new_term.rule.id), _output(new_term, verdict))
        return Decision(verdict, repeated=True, outputs=outputs)

    def _repeat_close(
        self,
        tick: CloseWindow,
        offset: int,
        partition: int,
        window: WindowRow | None,
        decided: IdRow,
    ) -> Decision:
        """Cases 2 and 3 for a tick."""
        if window is not None and window.offset < offset:
            window = _dated_as(window, decided)
            self._put_window(partition, msgspec.structs.replace(window, offset=offset, closed=True))
        alert_id = summary_id(tick.rule.id, tick.window_start_ms)
        output = _summary_output(alert_id, decided.value or b"", tick.rule.id)
        return Decision(Verdict.ALERT, repeated=True, outputs=(output,))

    def _running(self, window: WindowRow | None, rule: RuleRef, now_ms: int) -> WindowRow | None:
        """Return the window that a candidate counts in at a moment; None if a new one begins.

        The current one until its end, and also when the clock stands before its start: another
        worker's clock may be behind, and a window that could be entered again would have two
        summaries. One that is too far ahead is dated anew.
        """
        if window is None or window.closed or now_ms >= window.end_ms:
            return None
        if self._is_too_far_ahead(window.start_ms, now_ms):
            return self._dated_anew(window, rule, now_ms)
        return window

    def _opened(self, window: WindowRow | None, rule: RuleRef, now_ms: int) -> WindowRow:
        """Return the empty window that begins after `window`.

        It starts at a multiple of the interval, but never before the last one's end, which matters
        when the rule's interval has changed or the clock is behind.
        """
        start_ms, offset = _multiple_before(now_ms, rule), _NOTHING
        if window is not None:
            offset = window.offset
            if not self._is_too_far_ahead(window.end_ms, now_ms):
                start_ms = max(start_ms, window.end_ms)
        return self._dated(WindowRow(ROW_FORMAT, rule, 0, 0, offset=offset), start_ms)

    def _dated_anew(self, window: WindowRow, rule: RuleRef, now_ms: int) -> WindowRow:
        """Return a window from too far ahead as the present one, with what it has counted."""
        return self._dated(
            msgspec.structs.replace(window, rule=rule), _multiple_before(now_ms, rule)
        )

    def _dated(self, window: WindowRow, start_ms: int) -> WindowRow:
        """Return a window with this start, or the next that no summary names, and its end."""
        rule = window.rule
        while self._id_row(summary_id(rule.id, start_ms)) is not None:
            start_ms += 1
        end_ms = _multiple_before(start_ms, rule) + _interval_ms(rule)
        return msgspec.structs.replace(window, start_ms=start_ms, end_ms=end_ms)

    def _is_too_far_ahead(self, start_ms: int, now_ms: int) -> bool:
        return start_ms - now_ms > self._max_ahead_ms

    def _summarise(self, window: WindowRow, offset: int, partition: int, now_ms: int) -> Output:
        """Return the summary of a window; its bytes are kept for a replay."""
        alert_id, value = build_summary(
            window.rule,
            window.start_ms,
            window_end_ms=window.end_ms,
            total=window.alerted + window.overflow,
            overflow=window.overflow,
            sample_terms=window.sample,
            created_ms=window.end_ms,
        )
        row = IdRow(
            format=ROW_FORMAT,
            offset=offset,
            verdict=Verdict.ALERT.value,
            start_ms=window.start_ms,
            end_ms=window.end_ms,
            decided_ms=now_ms,
            value=value,
        )
        self._put_id(partition, alert_id, row)
        return _summary_output(alert_id, value, window.rule.id)

    def _raised(self, decided: IdRow, rule_id: str) -> tuple[Output, ...]:
        """Return the summary that a candidate raised when it was decided."""
        if decided.summary is None:
            return ()
        row = self._id_row(decided.summary)
        if row is None or row.value is None or row.offset != decided.offset:
            return ()
        return (_summary_output(decided.summary, row.value, rule_id),)

    def _counted(
        self, window: WindowRow, new_term: NewTerm, offset: int, verdict: Verdict
    ) -> WindowRow:
        """Return the window with one more candidate in it."""
        over = verdict is Verdict.OVERFLOW
        sample = window.sample
        if over and len(sample) < self._sample:
            sample = (*sample, tuple(_shortened(term) for term in new_term.terms))
        return msgspec.structs.replace(
            window,
            rule=new_term.rule,
            alerted=window.alerted + (not over),
            overflow=window.overflow + over,
            sample=sample,
            offset=max(offset, window.offset),
        )

    def _delete_expired(self, partition: int, now_ms: int, committed: int) -> None:
        """Delete at most `DELETIONS` id rows that are neither needed for duplicates nor replays."""
        expiring = self._expiring.get(partition)
        for _ in range(DELETIONS):
            if not expiring:
                return
            decided_ms, offset, key = _age(expiring[0])
            young = decided_ms + self._dedupe_ms > now_ms and len(expiring) <= self._max_ids
            if young or offset >= committed:
                return
            expiring.popleft()
            self._table.delete(key)

    def _id_row(self, alert_id: str) -> IdRow | None:
        value = self._table.get(_id_key(alert_id))
        return None if value is None else decode_id(value)

    def _window_row(self, rule_id: str) -> WindowRow | None:
        value = self._table.get(_window_key(rule_id))
        if value is None:
            return None
        if value is not self._last_window[0]:  # mostly it was written a moment ago
            self._last_window = value, decode_window(value)
        return self._last_window[1]

    def _put_id(self, partition: int, alert_id: str, row: IdRow) -> None:
        key = _id_key(alert_id)
        self._table.put(key, encode_row(row))
        self._expiring.setdefault(partition, deque()).append(_aged(row.decided_ms, row.offset, key))

    def _put_window(self, partition: int, window: WindowRow) -> None:
        value = encode_row(window)
        self._last_window = value, window
        self._table.put(_window_key(window.rule.id), value)
        awaiting = self._open.setdefault(partition, {})
        if window.awaits_summary:
            awaiting[window.rule.id] = window
        else:
            awaiting.pop(window.rule.id, None)


def _window_key(rule_id: str) -> bytes:
    return _WINDOW + rule_id.encode()


def _id_key(alert_id: str) -> bytes:
    return _ID + alert_id.encode()


def _start_key(history: str) -> bytes:
    return START + history.encode()


def _aged(decided_ms: int, offset: int, key: bytes) -> bytes:
    """Return the key of an id row with its age: a tuple of them would take 250 bytes."""
    return _AGE.pack(decided_ms, offset) + key


def _age(aged: bytes) -> tuple[int, int, bytes]:
    """Return when an id row was decided, its offset and its key."""
    return *_AGE.unpack_from(aged), aged[_AGE.size :]


def _interval_ms(rule: RuleRef) -> int:
    return max(rule.interval_ms, 1)


def _multiple_before(time_ms: int, rule: RuleRef) -> int:
    """Return the last multiple of a rule's interval that is not after a time."""
    return time_ms - time_ms % _interval_ms(rule)


def _dated_as(window: WindowRow, decided: IdRow) -> WindowRow:
    """Return a window with the dates it had when something was decided in it."""
    return msgspec.structs.replace(window, start_ms=decided.start_ms, end_ms=decided.end_ms)


def _shortened(term: Term) -> Term:
    return term[:SAMPLE_CHARACTERS] if isinstance(term, str) else term


def _learned(new_term: NewTerm, until_ms: int, *, repeated: bool) -> Decision:
    output = Output(
        destination="overflow",
        key=new_term.alert_id.encode(),
        value=mark_learning(bytes(new_term.alert), until_ms),
        rule_id=new_term.rule.id,
        summary=False,
        source_timestamp_ms=new_term.source_timestamp_ms,
        learning=True,
    )
    return Decision(Verdict.LEARNING, repeated=repeated, outputs=(output,))


def _output(new_term: NewTerm, verdict: Verdict) -> Output:
    return Output(
        destination="alerts" if verdict is Verdict.ALERT else "overflow",
        key=new_term.alert_id.encode(),
        value=bytes(new_term.alert),
        rule_id=new_term.rule.id,
        summary=False,
        source_timestamp_ms=new_term.source_timestamp_ms,
    )


def _summary_output(alert_id: str, value: bytes, rule_id: str) -> Output:
    return Output(
        destination="alerts",
        key=alert_id.encode(),
        value=value,
        rule_id=rule_id,
        summary=True,
        source_timestamp_ms=None,
    )
