"""The rows of the quota's table: msgpack, versioned, fields by position."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from pipeline.engine.tables import of_newer_version, unreadable
from pipeline.engine.wire import RuleRef
from pipeline.types import Term

ROW_FORMAT: Final = 1
"""Incremented by any change other than appending a field with a default."""


class WindowRow(msgspec.Struct, array_like=True, frozen=True):
    """The latest window of a rule. Times are epoch milliseconds.

    Attributes:
        format: the `ROW_FORMAT` of the writer.
        rule: the rule, as of the last candidate.
        start_ms: the start of the window.
        end_ms: its end (exclusive).
        alerted: the number of candidates that became alerts.
        overflow: the number of candidates that went to the overflow topic.
        sample: the tuples of the first of those.
        offset: the offset of the last candidate or tick that changed this row.
        closed: whether its summary has been raised.
    """

    format: int
    rule: RuleRef
    start_ms: int
    end_ms: int
    alerted: int = 0
    overflow: int = 0
    sample: tuple[tuple[Term, ...], ...] = ()
    offset: int = -1
    closed: bool = False

    @property
    def awaits_summary(self) -> bool:
        """Whether the window overflowed and has no summary yet."""
        return self.overflow > 0 and not self.closed


class IdRow(msgspec.Struct, array_like=True, frozen=True):
    """What was decided about an alert id. Times are epoch milliseconds.

    Attributes:
        format: the `ROW_FORMAT` of the writer.
        offset: the offset of the candidate; for a summary, of the candidate or tick that raised it.
        verdict: ``alert``, ``overflow`` or ``learning``.
        start_ms: the start of the window that the candidate counts in; if it is learning, the
            effective time of its event.
        end_ms: the end of that window; if it is learning, the end of the learning period.
        decided_ms: when it was decided; the row expires `dedupe_ms` later (see `Quota`).
        summary: the id of the summary that this candidate raised, if any.
        value: the document, if this is the row of a summary.
    """

    format: int
    offset: int
    verdict: str
    start_ms: int
    end_ms: int
    decided_ms: int
    summary: str | None = None
    value: bytes | None = None


class StartRow(msgspec.Struct, array_like=True, frozen=True):
    """When a history began and when it stopped learning. Times are epoch milliseconds.

    Attributes:
        format: the `ROW_FORMAT` of the writer.
        rule_id: the rule.
        start_ms: the event clock at the history's first new term.
        offset: the offset of that candidate.
        ended: the offset of the candidate that ended learning; None while the history is learning.
    """

    format: int
    rule_id: str
    start_ms: int
    offset: int
    ended: int | None = None

    @property
    def changed_at(self) -> int:
        """The offset of the last candidate that changed this row."""
        return self.offset if self.ended is None else self.ended


RowType = TypeVar("RowType", WindowRow, IdRow, StartRow)

_encoder = msgspec.msgpack.Encoder()
_windows = msgspec.msgpack.Decoder(WindowRow)
_ids = msgspec.msgpack.Decoder(IdRow)
_starts = msgspec.msgpack.Decoder(StartRow)


def encode_row(row: WindowRow | IdRow | StartRow) -> bytes:
    """Return the bytes of a row, as stored in the table and its changelog."""
    return _encoder.encode(row)


def decode_window(value: bytes) -> WindowRow:
    """Read a window row.

    Raises:
        StateError: the bytes are not a window row, or were written by a newer version of firstseen.
    """
    return _read(_windows, value)


def decode_id(value: bytes) -> IdRow:
    """Read an id row.

    Raises:
        StateError: the bytes are not an id row, or were written by a newer version of firstseen.
    """
    return _read(_ids, value)


def decode_start(value: bytes) -> StartRow:
    """Read a start row.

    Raises:
        StateError: the bytes are not a start row, or were written by a newer version of firstseen.
    """
    return _read(_starts, value)


def _read(decoder: msgspec.msgpack.Decoder[RowType], value: bytes) -> RowType:
    try:
        row = decoder.decode(value)
    except ValueError as error:
        raise unreadable("a quota row", error) from error
    if row.format != ROW_FORMAT:
        raise of_newer_version("a quota row", row.format, ROW_FORMAT)
    return row
