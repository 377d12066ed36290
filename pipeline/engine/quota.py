"""Quota: at most ``max_signals`` alerts per rule in each window of ``interval``; drops nothing.

Windows are measured in processing time and aligned to the epoch. The first ``max_signals``
candidates of a window become alerts; the rest go to the overflow topic in full. A window that
overflowed ends with one summary alert. (Kibana truncates a run's alerts at ``max_signals`` and
drops the rest.) A candidate whose alert id has already been decided is a duplicate and has no
output.

What is written, and in which order
-----------------------------------
For each rule the table holds a *window row*, with the counters and the offset of the last candidate
counted. For each alert it holds an *id row*, with the decision and its offset. A summary has an id
row too, which includes its bytes. One candidate writes at most these rows, in this order:

1. the start row of its history (`pipeline.engine.learning`),
2. the summary's id row,
3. its own id row,
4. the window row.

A candidate of a history that is learning counts in no window and writes no window row.

The driver keeps three promises:

* The candidates of a rule come in one order (the topic is keyed by rule).
* An output is sent only after the changelog has acknowledged every write made until then.
* An offset is committed only after its outputs have been acknowledged.

A changelog keeps the order of writes. After a crash the table is therefore one of two things.
Either it is a prefix of the writes, which includes at least the writes that any output was sent
for; or it is a local copy that is further ahead, with some rows set back to what the changelog
holds. Processing starts again at the committed offset.

*Before anything else, the changelog is given whatever only the local copy may have* (`_catch_up`):
every row that was written for the first record read, or for a later one, is written again. The id
rows come in order of their offsets and the window rows last, as when they were first written.
Everything decided from then on rests on a changelog that lacks nothing the table has, so the
argument below holds for a second crash as it does for the first. (If the rows were written again
one at a time, as their candidates are replayed, some id rows could be committed while the window
row that counts them is still missing.)

A candidate at offset ``o`` is in one of four cases:

1. *There is no id row.* The crash came before the write of the id row was acknowledged. So nothing
   was sent for ``o``, and the window row, which is written later, does not count it. The candidate
   is decided now, as if for the first time. The clock may be in another window by now, which does
   no harm.
2. *The id row has offset ``o``; the window row is before ``o``.* The crash came between the two
   writes. The verdict is the one in the id row, and the window row is brought up to date with it.
   If need be, this opens the window named in the id row (and closes the one before, with the same
   summary).
3. *The id row has offset ``o``; the window row is at or after ``o``.* Everything was written. The
   verdict is the one in the id row.
4. *The id row has another offset.* The candidate is a duplicate: no write, no output. If the
   outputs of that other offset were never sent, then that offset is not committed; being earlier,
   it has just been replayed.

Ticks (`CloseWindow`) go through the same topic and are decided in the same way, with the summary's
id row as theirs. A tick that decided nothing has left no row. It is recognised by an id row with a
later offset, and again decides nothing. Otherwise it might now: its window may have ended in the
meantime, although the candidates between the tick and that later offset are already decided, and
some of them count in that window.

So an output may be repeated, with the same id and to the same destination, but it is never lost and
never sent to both destinations. There is only one summary per window, because a window row that is
written after the summary is either marked closed or belongs to a later window.

An id row is deleted when it is older than `dedupe_ms`, or the oldest of more than `max_ids`, but
only after its offset is committed: then no replay needs it. Without the limit on their number, a
flood of new terms would fill memory and disk for a day, since each term has an id, whether it
became an alert or not. If an event is delivered again after its id row was deleted, it may raise
another alert, with the same id.

Clocks
------
Workers' clocks differ. If a worker's clock is before the start of a window, the window stays open,
so that no window is entered twice. But a worker whose clock is hours ahead could leave behind a
window that no other worker can end for hours: after the first ``max_signals`` candidates everything
would go to the overflow, and the summary would have to wait. So a window that starts more than
`max_ahead_ms` after this worker's present time counts as opened by a wrong clock. It is *redated*:
it becomes the present window and keeps the candidates it has counted. So none of them is in two
summaries, and none is left out. No window is given a start that an earlier summary has used,
because the id of a summary is derived from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from pipeline.engine.alert import build_summary
from pipeline.engine.identity import summary_id
from pipeline.engine.learning import START, Learning, LearningPeriods, mark_learning, start_key
from pipeline.engine.quota_ids import BEFORE_ALL, ID, MAX_IDS, AlertIds, id_key
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
from pipeline.engine.quota_windows import MAX_AHEAD_MS, WINDOW, Windows, window_key
from pipeline.engine.tables import Table
from pipeline.engine.wire import CloseWindow, NewTerm


class Verdict(StrEnum):
    """What the quota decides about a candidate."""

    ALERT = "alert"
    OVERFLOW = "overflow"
    LEARNING = "learning"
    DUPLICATE = "duplicate"


class Output(msgspec.Struct, frozen=True, gc=False):
    """One document to send.

    Attributes:
        destination: ``"alerts"`` or ``"overflow"``.
        key: the key of the record: the alert id, as bytes.
        value: the document.
        rule_id: the rule that raised it.
        summary: whether it is the summary of a window.
        source_timestamp_ms: the timestamp of the source record; None for a summary.
        learning: whether it goes to the overflow because its history is learning.
    """

    destination: str
    key: bytes
    value: bytes
    rule_id: str
    summary: bool
    source_timestamp_ms: int | None
    learning: bool = False


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The decision on one candidate or tick.

    Attributes:
        verdict: what was decided. For a tick: ALERT if it raised a summary, otherwise DUPLICATE.
        repeated: whether this repeats a decision made earlier.
        outputs: what to send, once the state has been acknowledged.
    """

    verdict: Verdict
    repeated: bool
    outputs: tuple[Output, ...]


_NO_OUTPUT: Final = Decision(Verdict.DUPLICATE, repeated=False, outputs=())


class Quota:
    """Decides on candidates for one partition of the new-terms topic.

    Args:
        table: the partition's state; keys are ``w`` + rule id, ``i`` + alert id and ``l`` + history
            id.
        dedupe_ms: how long an alert id is remembered.
        max_ids: how many alert ids are remembered; the latest are kept.
        sample: how many overflowing tuples a summary names.
        learning: how long each rule learns before it raises alerts; None if no rule does.
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
        self._ids = AlertIds(table, dedupe_ms=dedupe_ms, max_ids=max_ids)
        self._windows = Windows(table, self._ids, sample=sample, max_ahead_ms=max_ahead_ms)
        self._learning = Learning(table, learning or LearningPeriods())
        # Set by `recover` until the first record is read: the rows that are not id rows.
        self._recovered: list[tuple[bytes, WindowRow | StartRow]] | None = None
        # The highest offset that had an id row when the first record was read.
        self._decided_before = BEFORE_ALL

    def admit(self, new_term: NewTerm, offset: int, now_ms: int, committed: int) -> Decision:
        """Decide on one candidate.

        Args:
            new_term: the candidate.
            offset: its offset.
            now_ms: the processing time, epoch milliseconds.
            committed: an offset up to which (exclusive) the partition is known to be committed; 0
                is always safe.

        Raises:
            StateError: a row cannot be read.
        """
        self._catch_up(offset)
        self._ids.delete_expired(now_ms, committed)
        decided = self._ids.get(new_term.alert_id)
        if decided is not None and decided.offset != offset:
            return _NO_OUTPUT
        already_decided = decided is not None and decided.verdict != Verdict.LEARNING
        learns_until_ms = self._learning.until(new_term, offset, already_decided=already_decided)
        if decided is not None and decided.verdict == Verdict.LEARNING:
            return _learned(new_term, decided.end_ms, repeated=True)
        if decided is None and learns_until_ms is not None:
            return self._learn(new_term, offset, now_ms, learns_until_ms)
        window = self._windows.get(new_term.rule.id)
        if decided is None:
            return self._decide(new_term, offset, now_ms, window)
        return self._repeat(new_term, offset, window, decided)

    def close(self, tick: CloseWindow, offset: int, now_ms: int, committed: int) -> Decision:
        """Raise the summary of a window that has ended, if it overflowed and has no summary yet.

        The arguments are those of `admit`. A tick that comes before the end of its window (by this
        worker's clock) or after its summary decides nothing. A window that is too far ahead is
        redated, so that it can end.

        Raises:
            StateError: a row cannot be read.
        """
        self._catch_up(offset)
        self._ids.delete_expired(now_ms, committed)
        window = self._windows.get(tick.rule.id)
        decided = self._ids.get(summary_id(tick.rule.id, tick.window_start_ms))
        if decided is not None and decided.offset == offset and decided.value is not None:
            return self._repeat_close(tick, offset, window, decided)
        if (
            offset <= self._decided_before
            or window is None
            or window.start_ms != tick.window_start_ms
            or not window.awaits_summary
        ):
            return _NO_OUTPUT
        if now_ms >= window.end_ms:
            output = self._summarise(window, offset, now_ms)
            self._windows.put(msgspec.structs.replace(window, offset=offset, closed=True))
            return Decision(Verdict.ALERT, repeated=False, outputs=(output,))
        if self._windows.is_too_far_ahead(window.start_ms, now_ms):
            window = self._windows.redated(window, tick.rule, now_ms)
            self._windows.put(msgspec.structs.replace(window, offset=offset))
        return _NO_OUTPUT

    def recover(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Rebuild what is kept in memory from the partition's rows.

        Raises:
            StateError: a row cannot be read.
        """
        ids: list[tuple[bytes, IdRow]] = []
        windows: list[WindowRow] = []
        self._recovered = []
        for key, value in items:
            if key[:1] == ID:
                ids.append((key, decode_id(value)))
            elif key[:1] == WINDOW:
                windows.append(decode_window(value))
                self._recovered.append((key, windows[-1]))
            elif key[:1] == START:
                self._recovered.append((key, decode_start(value)))
        self._ids.recover(ids)
        self._windows.recover(windows)

    def rows_of(self, candidates: Iterable[NewTerm | CloseWindow]) -> set[bytes]:
        """Return the keys of the rows that judging these candidates and ticks will read."""
        keys: set[bytes] = set()
        for candidate in candidates:
            keys.add(window_key(candidate.rule.id))
            if isinstance(candidate, CloseWindow):
                keys.add(id_key(summary_id(candidate.rule.id, candidate.window_start_ms)))
            else:
                keys.add(id_key(candidate.alert_id))
                keys.add(start_key(candidate.history))
        return keys

    def ended(self, now_ms: int) -> list[CloseWindow]:
        """Return a tick for each window that awaits its summary and has ended or is too far ahead.

        The driver sends the ticks through the new-terms topic. It may call this, and send the
        ticks, more often than needed: a second tick for a window does nothing.
        """
        return [
            CloseWindow(rule=window.rule, window_start_ms=window.start_ms)
            for window in self._windows.awaiting_summary
            if window.end_ms <= now_ms or self._windows.is_too_far_ahead(window.start_ms, now_ms)
        ]

    def _catch_up(self, offset: int) -> None:
        """At the first record read, write again the rows written for its offset or a later one."""
        others, self._recovered = self._recovered, None
        if others is None:
            return
        ids = self._ids.written_since(offset)
        for key, row in others:
            if isinstance(row, StartRow) and row.changed_at >= offset:
                self._table.put(key, encode_row(row))
        for _, key, value in ids:
            self._table.put(key, value)
        for key, row in others:
            if isinstance(row, WindowRow) and row.offset >= offset:
                self._table.put(key, encode_row(row))
        self._decided_before = ids[-1][0] if ids else BEFORE_ALL

    def _learn(self, new_term: NewTerm, offset: int, now_ms: int, until_ms: int) -> Decision:
        """Decide on a candidate of a learning history; its id row keeps the end of the period."""
        row = IdRow(
            format=ROW_FORMAT,
            offset=offset,
            verdict=Verdict.LEARNING.value,
            start_ms=new_term.time_ms,
            end_ms=until_ms,
            decided_ms=now_ms,
        )
        self._ids.put(new_term.alert_id, row)
        return _learned(new_term, until_ms, repeated=False)

    def _decide(
        self, new_term: NewTerm, offset: int, now_ms: int, window: WindowRow | None
    ) -> Decision:
        """Case 1: make the first decision on this candidate, or the first that was not lost."""
        running = self._windows.running(window, new_term.rule, now_ms)
        summary = None
        if running is None:
            if window is not None and window.awaits_summary:
                summary = self._summarise(window, offset, now_ms)
            running = self._windows.opened(window, new_term.rule, now_ms)
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
        self._ids.put(new_term.alert_id, row)
        self._windows.count(running, new_term, offset, over=verdict is Verdict.OVERFLOW)
        output = _output(new_term, verdict)
        return Decision(
            verdict, repeated=False, outputs=(output,) if summary is None else (summary, output)
        )

    def _repeat(
        self, new_term: NewTerm, offset: int, window: WindowRow | None, decided: IdRow
    ) -> Decision:
        """Cases 2 and 3: return the decision in the id row."""
        verdict = Verdict(decided.verdict)
        if window is None or window.offset < offset:
            if window is None or window.closed or window.start_ms < decided.start_ms:
                window = WindowRow(ROW_FORMAT, new_term.rule, decided.start_ms, decided.end_ms)
            else:
                window = _dated_as(window, decided)
            self._windows.count(window, new_term, offset, over=verdict is Verdict.OVERFLOW)
        outputs = (*self._summary_raised_by(decided, new_term.rule.id), _output(new_term, verdict))
        return Decision(verdict, repeated=True, outputs=outputs)

    def _repeat_close(
        self, tick: CloseWindow, offset: int, window: WindowRow | None, decided: IdRow
    ) -> Decision:
        """Cases 2 and 3, for a tick."""
        if window is not None and window.offset < offset:
            window = _dated_as(window, decided)
            self._windows.put(msgspec.structs.replace(window, offset=offset, closed=True))
        alert_id = summary_id(tick.rule.id, tick.window_start_ms)
        output = _summary_output(alert_id, decided.value or b"", tick.rule.id)
        return Decision(Verdict.ALERT, repeated=True, outputs=(output,))

    def _summarise(self, window: WindowRow, offset: int, now_ms: int) -> Output:
        """Return the summary of a window, and store its bytes for a replay."""
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
        self._ids.put(alert_id, row)
        return _summary_output(alert_id, value, window.rule.id)

    def _summary_raised_by(self, decided: IdRow, rule_id: str) -> tuple[Output, ...]:
        """Return the summary that a candidate raised when it was decided, if any."""
        if decided.summary is None:
            return ()
        row = self._ids.get(decided.summary)
        if row is None or row.value is None or row.offset != decided.offset:
            return ()
        return (_summary_output(decided.summary, row.value, rule_id),)


def _dated_as(window: WindowRow, decided: IdRow) -> WindowRow:
    """Return a window with the dates it had when the decision was made."""
    return msgspec.structs.replace(window, start_ms=decided.start_ms, end_ms=decided.end_ms)


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
