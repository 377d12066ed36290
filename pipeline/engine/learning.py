"""Learning: a new history tells nothing until it has watched for a while.

Where the input retains too little to learn from, the first days of a rule are all new terms. With
a learning period they go to the overflow topic, marked, and do not count against the quota.

The period begins with the first new term of a history to reach the quota (observations of several
partitions meet there in no fixed order) and is measured by the event clock of the partition that
found it (`pipeline.engine.event_clock`), so a backlog counts for the time it spans, and a host
whose clock is years behind begins no period that is over at once. It is over, for good, with the
first new term at which that clock has come to its end: what comes after that one is told, also if
it comes late and is dated within the period. Without a period the first new term of a history is
the one with which learning is over.

Both are in a row of the quota's table, a *start row*: all new terms of a rule pass through one
partition of it, however many workers run and whichever restarts. It is written ahead of the other
rows of its candidate, and says with which offset learning was over, not only that it was: a
candidate before that offset whose own row a crash took is learned again, as the first time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from pipeline.engine.quota_rows import ROW_FORMAT, StartRow, decode_start, encode_row
from pipeline.engine.tables import Table
from pipeline.engine.wire import NewTerm, is_object
from pipeline.rules.timestamp import format_timestamp

START: Final = b"l"
"""The first byte of a start row's key; the history id follows."""

_document = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class LearningPeriods:
    """How long each rule learns, milliseconds.

    Attributes:
        default_ms: a rule that is not named.
        by_rule: rules that are, by id.
    """

    default_ms: int = 0
    by_rule: Mapping[str, int] = field(default_factory=dict)

    def of(self, rule_id: str) -> int:
        """Return how long a rule learns."""
        return self.by_rule.get(rule_id, self.default_ms)


def start_key(history: str) -> bytes:
    """Return the key of a history's start row."""
    return START + history.encode()


class Learning:
    """Says of each new term whether its history learns, and notes where it began and ended.

    Args:
        table: the partition's state.
        periods: how long each rule learns.
    """

    def __init__(self, table: Table, periods: LearningPeriods) -> None:
        self._table = table
        self._periods = periods

    def until(self, new_term: NewTerm, offset: int, *, told: bool) -> int | None:
        """Return when a candidate's history begins to tell (epoch milliseconds); None if it does.

        Args:
            new_term: the candidate.
            offset: its offset.
            told: whether it was decided before, and told.

        Raises:
            StateError: a row cannot be read.
        """
        if not new_term.history:
            return None
        key = start_key(new_term.history)
        value = self._table.get(key)
        before = None if value is None else decode_start(value)
        reached_ms = max(new_term.time_ms, new_term.clock_ms)
        row = before or StartRow(ROW_FORMAT, new_term.rule.id, reached_ms, offset)
        period_ms = self._periods.of(new_term.rule.id)
        until_ms = row.start_ms + period_ms
        if row.ended is None and (told or not period_ms or reached_ms >= until_ms):
            row = msgspec.structs.replace(row, ended=offset)
        if row is not before:
            self._table.put(key, encode_row(row))
        return until_ms if row.ended is None or offset < row.ended else None


def mark_learning(alert: bytes, until_ms: int) -> bytes:
    """Return the alert document with ``detection.learning``; all other bytes mean what they did.

    Args:
        alert: JSON text of an alert.
        until_ms: when its history begins to tell, epoch milliseconds.

    A ``detection`` that is no object, which firstseen does not write, is replaced.
    """
    document: dict[str, Any] = dict(_document.decode(alert))
    detection: dict[str, Any] = {}
    known = document.get("detection")
    if known is not None and is_object(known):
        detection.update(_document.decode(known))
    detection["learning"] = {"until": format_timestamp(until_ms)}
    document["detection"] = detection
    return _encoder.encode(document)
