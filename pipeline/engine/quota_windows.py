"""The window rows of the quota's table: how many alerts each rule raised in its latest window.

`pipeline.engine.quota` explains what windows are, and what happens when workers' clocks differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from pipeline.engine.identity import summary_id
from pipeline.engine.quota_ids import BEFORE_ALL, AlertIds
from pipeline.engine.quota_rows import ROW_FORMAT, WindowRow, decode_window, encode_row
from pipeline.engine.tables import Table
from pipeline.engine.wire import NewTerm, RuleRef
from pipeline.types import Term

WINDOW: Final = b"w"
"""The first byte of a window row's key; the rule id follows."""

SAMPLE_CHARACTERS: Final = 512
"""How many characters of a text term a summary shows: a window row has to fit into one changelog
record."""
MAX_AHEAD_MS: Final = 300_000
"""Workers whose clocks differ by no more than this share their windows."""


def window_key(rule_id: str) -> bytes:
    """Return the key of a rule's window row."""
    return WINDOW + rule_id.encode()


class Windows:
    """The window rows of one partition; those that will need a summary are also kept in memory.

    Args:
        table: the partition's state.
        ids: its id rows, which show which windows have a summary.
        sample: how many overflowing tuples a summary names.
        max_ahead_ms: how far ahead of this worker's clock a window may start.
    """

    def __init__(self, table: Table, ids: AlertIds, *, sample: int, max_ahead_ms: int) -> None:
        self._table = table
        self._ids = ids
        self._sample = sample
        self._max_ahead_ms = max_ahead_ms
        self._awaiting: dict[str, WindowRow] = {}
        self._last: tuple[bytes | None, WindowRow | None] = (None, None)

    @property
    def awaiting_summary(self) -> Collection[WindowRow]:
        """The windows that overflowed and have no summary yet."""
        return self._awaiting.values()

    def get(self, rule_id: str) -> WindowRow | None:
        """Return the latest window of a rule, if there is one.

        Raises:
            StateError: its row cannot be read.
        """
        value = self._table.get(window_key(rule_id))
        if value is None:
            return None
        if value is not self._last[0]:  # usually it was written a moment ago
            self._last = value, decode_window(value)
        return self._last[1]

    def put(self, window: WindowRow) -> None:
        """Store the latest window of its rule."""
        value = encode_row(window)
        self._last = value, window
        self._table.put(window_key(window.rule.id), value)
        self._note(window)

    def count(self, window: WindowRow, new_term: NewTerm, offset: int, *, over: bool) -> None:
        """Store a window with one more candidate in it.

        Args:
            window: the window.
            new_term: the candidate.
            offset: its offset.
            over: whether it goes to the overflow topic.
        """
        sample = window.sample
        if over and len(sample) < self._sample:
            sample = (*sample, tuple(_shortened(term) for term in new_term.terms))
        self.put(
            msgspec.structs.replace(
                window,
                rule=new_term.rule,
                alerted=window.alerted + (not over),
                overflow=window.overflow + over,
                sample=sample,
                offset=max(offset, window.offset),
            )
        )

    def recover(self, windows: Iterable[WindowRow]) -> None:
        """Load the windows that the table holds."""
        self._awaiting = {}
        for window in windows:
            self._note(window)

    def running(self, window: WindowRow | None, rule: RuleRef, now_ms: int) -> WindowRow | None:
        """Return the window that a candidate counts in now; None if a new one has to be opened.

        This is the current window until its end. It is also the current window if the clock is
        before its start: another worker's clock may be behind, and a window that could be entered
        again would have two summaries. A window that is too far ahead is redated.
        """
        if window is None or window.closed or now_ms >= window.end_ms:
            return None
        if self.is_too_far_ahead(window.start_ms, now_ms):
            return self.redated(window, rule, now_ms)
        return window

    def opened(self, window: WindowRow | None, rule: RuleRef, now_ms: int) -> WindowRow:
        """Return the empty window that follows `window`.

        It starts at a multiple of the interval, but never before the end of the last window. That
        matters when the rule's interval has changed, or the clock is behind.
        """
        start_ms, offset = _multiple_before(now_ms, rule), BEFORE_ALL
        if window is not None:
            offset = window.offset
            if not self.is_too_far_ahead(window.end_ms, now_ms):
                start_ms = max(start_ms, window.end_ms)
        return self._dated(WindowRow(ROW_FORMAT, rule, 0, 0, offset=offset), start_ms)

    def redated(self, window: WindowRow, rule: RuleRef, now_ms: int) -> WindowRow:
        """Return a window from too far ahead as the present window, with all it has counted."""
        return self._dated(
            msgspec.structs.replace(window, rule=rule), _multiple_before(now_ms, rule)
        )

    def is_too_far_ahead(self, start_ms: int, now_ms: int) -> bool:
        """Whether a window with this start was opened by a wrong clock."""
        return start_ms - now_ms > self._max_ahead_ms

    def _dated(self, window: WindowRow, start_ms: int) -> WindowRow:
        """Return a window with this start, or the next that no summary has used, and its end."""
        rule = window.rule
        while self._ids.get(summary_id(rule.id, start_ms)) is not None:
            start_ms += 1
        end_ms = _multiple_before(start_ms, rule) + _interval_ms(rule)
        return msgspec.structs.replace(window, start_ms=start_ms, end_ms=end_ms)

    def _note(self, window: WindowRow) -> None:
        if window.awaits_summary:
            self._awaiting[window.rule.id] = window
        else:
            self._awaiting.pop(window.rule.id, None)


def _interval_ms(rule: RuleRef) -> int:
    return max(rule.interval_ms, 1)


def _multiple_before(time_ms: int, rule: RuleRef) -> int:
    """Return the last multiple of a rule's interval that is not after this time."""
    return time_ms - time_ms % _interval_ms(rule)


def _shortened(term: Term) -> Term:
    return term[:SAMPLE_CHARACTERS] if isinstance(term, str) else term
