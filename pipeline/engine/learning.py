"""Learning: a new history raises no alerts until it has watched for a while.

Where the input retains too little to learn from, everything that a rule sees in its first days is
new. With a learning period, these new terms go to the overflow topic, marked as such, and do not
count against the quota.

* The period begins with the first new term of a history that reaches the quota. (Observations of
  several partitions meet there in no fixed order.)
* It is measured by the event clock of the partition that found the term
  (`pipeline.engine.event_clock`). So a backlog counts for the time it spans, and a host whose clock
  is years behind does not begin a period that is over at once.
* It ends, for good, with the first new term at which that clock has reached the end of the period.
  Everything after that term raises alerts, even if it is late and dated within the period.
* Without a learning period, learning ends with the first new term of a history.

Beginning and end are kept in a *start row* in the quota's table. All new terms of a rule pass
through one partition of that table, however many workers run and whichever of them restarts. The
start row is written before the other rows of its candidate. It records the offset at which learning
ended, not just that it ended. So if a crash has lost the id row of a candidate before that offset,
the candidate is decided as learning again, as it was the first time.
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
    """How long each rule learns, in milliseconds.

    Attributes:
        default_ms: for rules that are not listed.
        by_rule: the rules that are listed, by id.
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
    """Decides for each new term whether its history is learning, and stores the beginning and end.

    Args:
        table: the partition's state.
        periods: how long each rule learns.
    """

    def __init__(self, table: Table, periods: LearningPeriods) -> None:
        self._table = table
        self._periods = periods

    def until(self, new_term: NewTerm, offset: int, *, already_decided: bool) -> int | None:
        """Return when a candidate's history stops learning (epoch milliseconds); None if it has.

        Args:
            new_term: the candidate.
            offset: its offset.
            already_decided: whether it was decided before, and not as learning.

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
        if row.ended is None and (already_decided or not period_ms or reached_ms >= until_ms):
            row = msgspec.structs.replace(row, ended=offset)
        if row is not before:
            self._table.put(key, encode_row(row))
        return until_ms if row.ended is None or offset < row.ended else None


def mark_learning(alert: bytes, until_ms: int) -> bytes:
    """Return the alert document with ``detection.learning`` added and all else unchanged.

    A ``detection`` that is not an object, which firstseen never writes, is replaced.

    Args:
        alert: the JSON text of an alert.
        until_ms: when its history stops learning, epoch milliseconds.
    """
    document: dict[str, Any] = dict(_document.decode(alert))
    detection: dict[str, Any] = {}
    known = document.get("detection")
    if known is not None and is_object(known):
        detection.update(_document.decode(known))
    detection["learning"] = {"until": format_timestamp(until_ms)}
    document["detection"] = detection
    return _encoder.encode(document)
