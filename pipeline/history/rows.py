"""The rows of a history as people and files see them: one JSON object per line."""

from __future__ import annotations

import msgspec
import orjson

from pipeline.engine.first_seen_rows import Row
from pipeline.engine.identity import HISTORY_BYTES, KEY_BYTES, term_key
from pipeline.engine.wire import Count, Learn, Length, check_terms
from pipeline.rules.timestamp import format_timestamp, parse_timestamp
from pipeline.types import Term


class HistoryRow(msgspec.Struct, frozen=True):
    """What is remembered about one term tuple.

    Attributes:
        rule_id: the rule.
        history: id of the history, 16 hexadecimal digits.
        window_ms: length of the history.
        terms: the tuple; long texts are cut.
        first_seen: earliest effective time since it was last judged new, ISO 8601.
        last_seen: latest effective time, ISO 8601.
        count: sightings since it was last judged new.
        row: key of its row in hexadecimal digits if a term is cut, else empty.
    """

    rule_id: str
    history: str
    window_ms: Length
    terms: tuple[Term, ...]
    first_seen: str
    last_seen: str
    count: Count
    row: str = ""

    @classmethod
    def of(cls, key: bytes, row: Row) -> HistoryRow:
        """Return the line for a row of the table."""
        history = key[:HISTORY_BYTES].hex()
        return cls(
            rule_id=row.rule_id,
            history=history,
            window_ms=row.window_ms,
            terms=row.terms,
            first_seen=format_timestamp(row.first_ms),
            last_seen=format_timestamp(row.last_ms),
            count=row.count,
            row="" if term_key(history, row.terms) == key else key.hex(),
        )

    def key(self) -> bytes:
        """Return the key of the row."""
        return bytes.fromhex(self.row) if self.row else term_key(self.history, self.terms)

    def to_json(self) -> bytes:
        """Return the JSON line for the row."""
        plain = msgspec.to_builtins(self)
        if not self.row:
            del plain["row"]
        return orjson.dumps(plain)

    def to_learn(self) -> Learn:
        """Return the record from which a worker learns this row.

        Raises:
            ValueError: ``first_seen`` or ``last_seen`` is not a time.
        """
        times = [parse_timestamp(text) for text in (self.first_seen, self.last_seen)]
        first_ms, last_ms = times
        if first_ms is None or last_ms is None:
            raise ValueError("first_seen and last_seen are times like 2026-03-02T08:00:00.000Z")
        return Learn(
            rule_id=self.rule_id,
            history=self.history,
            window_ms=self.window_ms,
            terms=self.terms,
            first_ms=min(first_ms, last_ms),
            last_ms=last_ms,
            count=self.count,
            row=self.row,
        )


_decoder = msgspec.json.Decoder(HistoryRow)


def decode_history_row(line: bytes) -> HistoryRow:
    """Read a line that `HistoryRow.to_json` wrote.

    Raises:
        ValueError: it is not such a line.
        DecodeError: no row of a table could hold it.
    """
    row = _decoder.decode(line)
    check_terms(row.terms)
    lengths = len(bytes.fromhex(row.history)), len(bytes.fromhex(row.row))
    if lengths not in {(HISTORY_BYTES, 0), (HISTORY_BYTES, KEY_BYTES)}:
        raise ValueError(f"not a history id: {row.history!r}")
    return row
