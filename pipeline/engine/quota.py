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
were sent for, or a local copy further ahead. Processing starts again at the committed offset. At
candidate ``o``:

1. *No id row.* The crash came before the id row's write was acknowledged, so nothing was sent for
   ``o``, and the window row, written later, does not count it. It is decided now, as if for the
   first time; the clock may have moved to another window, which harms nobody.
2. *Id row of offset ``o``, window row before ``o``.* The crash fell between the two writes. The
   verdict is the id row's; the window row is brought up to date with it, opening the id row's
   window (and closing the one before, with the same summary) if need be.
3. *Id row of offset ``o``, window row at or after ``o``.* All of it is written; perhaps not
   acknowledged, when the table is a local copy that is ahead of its changelog. The verdict is the
   id row's, and the id rows are put again. The window row is put again only at the offset it
   stands at: put earlier, it would count candidates whose id rows the changelog may still lack,
   and a second crash would count those twice (case 1).
   *Known gap:* if that second crash falls before the window row is put again, and takes the local
   copy with it, the counts of the id rows already put again are lost: a few alerts more than
   ``max_signals`` may then be told in that window. None is lost, and none is told twice.
4. *Id row of another offset.* A duplicate: no write, no output. If that other offset's outputs
   were never sent, then it is not committed, and being earlier it has just been replayed.

Ticks (`CloseWindow`) go through the same topic and are decided likewise, with the summary's id row
as theirs. So an output can be repeated, under its own id and to its own destination, and it is
never lost and never sent to both. A window row written after a window's summary is marked closed
or belongs to a later window, which is why there is one summary.

An id row is deleted once it is older than `dedupe_ms` and its offset is committed: no replay asks
for it. An event that is delivered again later than that may be alerted again, under the same id.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import StrEnum
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

_WINDOW = b"w"
_ID = b"i"


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
        changed: the table was written.
    """

    verdict: Verdict
    repeated: bool
    outputs: tuple[Output, ...]
    changed: bool


class Quota:
    """Decides alert, overflow or duplicate.

    Args:
        table: the state; keys are ``w`` + rule id and ``i`` + alert id.
        dedupe_ms: how long an alert id is remembered.
        sample: how many overflowing tuples a summary names.
        learning: how long rules learn before they tell; None: none does.
    """

    def __init__(
        self,
        table: Table,
        *,
        dedupe_ms: int = 86_400_000,
        sample: int = 10,
        learning: LearningPeriods | None = None,
    ) -> None:
        self._table = table
        self._learning = LearningPeriods() if learning is None else learning
        self._dedupe_ms = dedupe_ms
        self._sample = sample
        # In memory, and rebuilt by recover(): per partition the id rows in order of their age,
        # and the windows that will need a summary.
        self._expiring: dict[int, deque[tuple[int, int, bytes]]] = {}
        self._open: dict[int, dict[str, WindowRow]] = {}

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
        changed = self._delete_expired(partition, now_ms, committed)
        decided = self._id_row(new_term.alert_id)
        if decided is not None and decided.offset != offset:
            return Decision(Verdict.DUPLICATE, repeated=False, outputs=(), changed=changed)
        learns_until_ms = self._learns_until(new_term, offset)
        if decided is None and new_term.time_ms < learns_until_ms:
            return self._learn(new_term, offset, partition, now_ms, learns_until_ms)
        if decided is not None and decided.verdict == Verdict.LEARNING:
            self._put_id(partition, new_term.alert_id, decided, fresh=False)
            return _learned(new_term, decided.end_ms, repeated=True)
        window = self._window_row(new_term.rule.id)
        if decided is None:
            return self._decide(new_term, offset, partition, now_ms, window)
        return self._repeat(new_term, offset, partition, window, decided)

    def close(
        self, tick: CloseWindow, offset: int, partition: int, now_ms: int, committed: int
    ) -> Decision:
        """Raise the summary of a window that is over, if it overflowed and has none.

        The arguments are those of `admit`. A tick that comes before the end of its window (by
        this worker's clock) or after its summary decides nothing.

        Raises:
            StateError: a row cannot be read.
        """
        changed = self._delete_expired(partition, now_ms, committed)
        window = self._window_row(tick.rule.id)
        decided = self._id_row(summary_id(tick.rule.id, tick.window_start_ms))
        if decided is not None and decided.offset == offset and decided.value is not None:
            return self._repeat_close(tick, offset, partition, window, decided)
        if (
            window is None
            or window.start_ms != tick.window_start_ms
            or not window.awaits_summary
            or now_ms < window.end_ms
        ):
            return Decision(Verdict.DUPLICATE, repeated=False, outputs=(), changed=changed)
        _, output = self._summarise(window, offset, partition, now_ms)
        self._put_window(
            partition,
            msgspec.structs.replace(window, offset=max(offset, window.offset), closed=True),
        )
        return Decision(Verdict.ALERT, repeated=False, outputs=(output,), changed=True)

    def recover(self, partition: int, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Rebuild what is kept in memory about a partition from its rows.

        Raises:
            StateError: a row cannot be read.
        """
        ages = []
        windows = {}
        for key, value in items:
            if key[:1] == _ID:
                row = decode_id(value)
                ages.append((row.decided_ms, row.offset, key))
            elif key[:1] == _WINDOW:
                window = decode_window(value)
                if window.awaits_summary:
                    windows[window.rule.id] = window
        self._expiring[partition] = deque(sorted(ages))
        self._open[partition] = windows

    def forget(self, partition: int) -> None:
        """Drop what is kept in memory about a partition that belongs to another worker now."""
        self._expiring.pop(partition, None)
        self._open.pop(partition, None)

    def ended(self, now_ms: int) -> list[tuple[int, CloseWindow]]:
        """Return (partition, tick) for each window that is over and awaits its summary.

        The driver sends them through the new-terms topic. It may ask, and send, more often than
        needed: a second tick for a window does nothing.
        """
        return [
            (partition, CloseWindow(rule=window.rule, window_start_ms=window.start_ms))
            for partition, windows in self._open.items()
            for window in windows.values()
            if window.end_ms <= now_ms
        ]

    def _learns_until(self, new_term: NewTerm, offset: int) -> int:
        """Return the time from which a candidate's history tells; note where it began."""
        if not new_term.history:
            return new_term.time_ms
        key = START + new_term.history.encode()
        value = self._table.get(key)
        row = None if value is None else decode_start(value)
        if row is None:
            row = StartRow(ROW_FORMAT, new_term.rule.id, new_term.time_ms, offset)
        if row.offset == offset:
            self._table.put(key, encode_row(row))
        period_ms = self._learning.of(new_term.rule.id)
        # Without a period not even what comes late, from before the beginning, is learned.
        return row.start_ms + period_ms if period_ms else new_term.time_ms

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
        self._put_id(partition, new_term.alert_id, row, fresh=True)
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
        opened = _window_at(new_term.rule, window, now_ms)
        verdict = Verdict.ALERT if opened.alerted < new_term.rule.max_signals else Verdict.OVERFLOW
        summaries = self._close_before(window, opened.start_ms, offset, partition, now_ms)
        row = IdRow(
            format=ROW_FORMAT,
            offset=offset,
            verdict=verdict.value,
            start_ms=opened.start_ms,
            end_ms=opened.end_ms,
            decided_ms=now_ms,
            summary=summaries[0][0] if summaries else None,
        )
        self._put_id(partition, new_term.alert_id, row, fresh=True)
        self._put_window(partition, self._counted(opened, new_term, offset, verdict))
        outputs = (*(output for _, output in summaries), _output(new_term, verdict))
        return Decision(verdict, repeated=False, outputs=outputs, changed=True)

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
        outputs = self._raised(decided, new_term.rule.id, partition)
        self._put_id(partition, new_term.alert_id, decided, fresh=False)
        if window is None or window.offset < offset:
            if window is None or window.start_ms < decided.start_ms:
                window = WindowRow(ROW_FORMAT, new_term.rule, decided.start_ms, decided.end_ms)
            self._put_window(partition, self._counted(window, new_term, offset, verdict))
        elif window.offset == offset:
            self._put_window(partition, window)
        outputs = (*outputs, _output(new_term, verdict))
        return Decision(verdict, repeated=True, outputs=outputs, changed=True)

    def _repeat_close(
        self,
        tick: CloseWindow,
        offset: int,
        partition: int,
        window: WindowRow | None,
        decided: IdRow,
    ) -> Decision:
        """Cases 2 and 3 for a tick."""
        alert_id = summary_id(tick.rule.id, tick.window_start_ms)
        self._put_id(partition, alert_id, decided, fresh=False)
        if window is not None and window.offset == offset:
            self._put_window(partition, window)
        elif (
            window is not None
            and window.offset < offset
            and window.start_ms == tick.window_start_ms
        ):
            self._put_window(partition, msgspec.structs.replace(window, offset=offset, closed=True))
        output = _summary_output(alert_id, decided.value or b"", tick.rule.id)
        return Decision(Verdict.ALERT, repeated=True, outputs=(output,), changed=True)

    def _close_before(
        self, window: WindowRow | None, start_ms: int, offset: int, partition: int, now_ms: int
    ) -> list[tuple[str, Output]]:
        """Summarise the window that a candidate of a later one closes."""
        if window is None or window.start_ms == start_ms or not window.awaits_summary:
            return []
        return [self._summarise(window, offset, partition, now_ms)]

    def _summarise(
        self, window: WindowRow, offset: int, partition: int, now_ms: int
    ) -> tuple[str, Output]:
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
        self._put_id(partition, alert_id, row, fresh=True)
        return alert_id, _summary_output(alert_id, value, window.rule.id)

    def _raised(self, decided: IdRow, rule_id: str, partition: int) -> tuple[Output, ...]:
        """Return the summary that a candidate raised when it was decided, written once more."""
        if decided.summary is None:
            return ()
        row = self._id_row(decided.summary)
        if row is None or row.value is None or row.offset != decided.offset:
            return ()
        self._put_id(partition, decided.summary, row, fresh=False)
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

    def _delete_expired(self, partition: int, now_ms: int, committed: int) -> bool:
        """Delete at most `DELETIONS` id rows that are neither needed for duplicates nor replays."""
        expiring = self._expiring.get(partition)
        deleted = 0
        while expiring and deleted < DELETIONS:
            decided_ms, offset, key = expiring[0]
            if decided_ms + self._dedupe_ms > now_ms or offset >= committed:
                break
            expiring.popleft()
            self._table.delete(key)
            deleted += 1
        return deleted > 0

    def _id_row(self, alert_id: str) -> IdRow | None:
        value = self._table.get(_ID + alert_id.encode())
        return None if value is None else decode_id(value)

    def _window_row(self, rule_id: str) -> WindowRow | None:
        value = self._table.get(_WINDOW + rule_id.encode())
        return None if value is None else decode_window(value)

    def _put_id(self, partition: int, alert_id: str, row: IdRow, *, fresh: bool) -> None:
        key = _ID + alert_id.encode()
        self._table.put(key, encode_row(row))
        if fresh:
            expiring = self._expiring.setdefault(partition, deque())
            expiring.append((row.decided_ms, row.offset, key))

    def _put_window(self, partition: int, window: WindowRow) -> None:
        self._table.put(_WINDOW + window.rule.id.encode(), encode_row(window))
        awaiting = self._open.setdefault(partition, {})
        if window.awaits_summary:
            awaiting[window.rule.id] = window
        else:
            awaiting.pop(window.rule.id, None)


def _window_at(rule: RuleRef, window: WindowRow | None, now_ms: int) -> WindowRow:
    """Return the window that a candidate counts in at a moment.

    The current one until its end, and also when the clock stands before its start: another
    worker's clock may be behind, and a window that could be entered again would have two
    summaries. A new window starts at a multiple of the interval, but never before the last one's
    end, which matters when the rule's interval has changed.
    """
    if window is not None and not window.closed and now_ms < window.end_ms:
        return window
    interval = max(rule.interval_ms, 1)
    start_ms = now_ms - now_ms % interval
    offset = -1
    if window is not None:
        start_ms = max(start_ms, window.end_ms)
        offset = window.offset
    end_ms = start_ms - start_ms % interval + interval
    return WindowRow(ROW_FORMAT, rule, start_ms, end_ms, offset=offset)


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
    return Decision(Verdict.LEARNING, repeated=repeated, outputs=(output,), changed=True)


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
