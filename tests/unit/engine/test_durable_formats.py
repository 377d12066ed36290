"""What is kept in tables and topics, value by value: an upgrade reads what the version before wrote.

If a test fails here, then after an upgrade the workers cannot read their state, or read it wrongly.
Append a field with a default, and add a line for it; or increment the format and read both.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pipeline.engine import first_seen_rows, quota_rows
from pipeline.engine.forgotten import MARKS_KEY, Forgotten
from pipeline.engine.held import Held, held_key
from pipeline.engine.learning import START
from pipeline.engine.quota_ids import id_key
from pipeline.engine.quota_rows import IdRow, StartRow, WindowRow
from pipeline.engine.quota_windows import window_key
from pipeline.engine.tables import MemoryTable
from pipeline.engine.wire import (
    CloseWindow,
    Forget,
    Hold,
    Learn,
    NewTerm,
    Observation,
    Release,
    RuleRef,
    Source,
    decode_candidate,
    decode_observation_or_change,
    encode,
)

HISTORY = "0123456789abcdef"
RULE = RuleRef("r", "Rule", 3, "low", 21, 100, 300_000, ("host.id", "process.pid"))
RULE_VALUES = {
    "id": "r",
    "name": "Rule",
    "version": 3,
    "severity": "low",
    "risk_score": 21,
    "max_signals": 100,
    "interval_ms": 300_000,
    "fields": ["host.id", "process.pid"],
}

ROWS: dict[str, tuple[Any, Any, Any, list[Any]]] = {
    "a term tuple": (
        first_seen_rows.encode_row,
        first_seen_rows.decode_row,
        first_seen_rows.Row(1, "r", ("h", 4, True), 10, 20, 2, 7, ((5, None), (6, 9)), 1000, 3),
        [1, "r", ["h", 4, True], 10, 20, 2, 7, [[5, None], [6, 9]], 1000, 3],
    ),
    "a window of the quota": (
        quota_rows.encode_row,
        quota_rows.decode_window,
        WindowRow(1, RULE, 10, 20, 100, 2, (("h", 4), ("i", 5)), 7, True),
        [1, RULE_VALUES, 10, 20, 100, 2, [["h", 4], ["i", 5]], 7, True],
    ),
    "an alert id": (
        quota_rows.encode_row,
        quota_rows.decode_id,
        IdRow(1, 7, "overflow", 10, 20, 15, "s", b"{}"),
        [1, 7, "overflow", 10, 20, 15, "s", b"{}"],
    ),
    "a learning period": (
        quota_rows.encode_row,
        quota_rows.decode_start,
        StartRow(1, "r", 10, 7, 9),
        [1, "r", 10, 7, 9],
    ),
}

OLDEST: dict[str, tuple[Any, list[Any], Any]] = {
    "a term tuple": (
        first_seen_rows.decode_row,
        [1, "r", ["h"], 10, 20, 2, 7],
        first_seen_rows.Row(1, "r", ("h",), 10, 20, 2, 7),
    ),
    "a window of the quota": (
        quota_rows.decode_window,
        [1, RULE_VALUES, 10, 20],
        WindowRow(1, RULE, 10, 20),
    ),
    "an alert id": (
        quota_rows.decode_id,
        [1, 7, "alert", 10, 20, 15],
        IdRow(1, 7, "alert", 10, 20, 15),
    ),
    "a learning period": (quota_rows.decode_start, [1, "r", 10, 7], StartRow(1, "r", 10, 7)),
}

OBSERVATION = {
    "rule": RULE_VALUES,
    "history": HISTORY,
    "window_ms": 1000,
    "terms": ["h", 4],
    "time_ms": 20,
    "event_id": "e",
    "alert_id": "a",
    "source": {"topic": "t", "partition": 1, "offset": 2, "timestamp_ms": 3, "index": 4},
    "event": {"x": 1},
    "capped": True,
    "time_source": "@timestamp",
}
ENVELOPES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "a sighting": (
        decode_observation_or_change,
        Observation(
            rule=RULE,
            history=HISTORY,
            window_ms=1000,
            terms=("h", 4),
            time_ms=20,
            event_id="e",
            alert_id="a",
            source=Source("t", 1, 2, 3, 4),
            event=msgspec.Raw(b'{"x":1}'),
            capped=True,
            time_source="@timestamp",
        ),
        OBSERVATION,
    ),
    "learn": (
        decode_observation_or_change,
        Learn("r", HISTORY, 1000, ("h", 4), 10, 20, 2, HISTORY + "00" * 16),
        {
            "type": "learn",
            "rule_id": "r",
            "history": HISTORY,
            "window_ms": 1000,
            "terms": ["h", 4],
            "first_ms": 10,
            "last_ms": 20,
            "count": 2,
            "row": HISTORY + "00" * 16,
        },
    ),
    "forget": (
        decode_observation_or_change,
        Forget("r", HISTORY, ""),
        {"type": "forget", "rule_id": "r", "history": HISTORY, "row": ""},
    ),
    "hold": (
        decode_observation_or_change,
        Hold("r", HISTORY),
        {"type": "hold", "rule_id": "r", "history": HISTORY},
    ),
    "release": (
        decode_observation_or_change,
        Release("r", HISTORY),
        {"type": "release", "rule_id": "r", "history": HISTORY},
    ),
    "a new term": (
        decode_candidate,
        NewTerm("a", RULE, ("h", 4), 20, 3, msgspec.Raw(b'{"y":2}'), HISTORY, 25),
        {
            "type": "new_term",
            "alert_id": "a",
            "rule": RULE_VALUES,
            "terms": ["h", 4],
            "time_ms": 20,
            "source_timestamp_ms": 3,
            "alert": {"y": 2},
            "history": HISTORY,
            "clock_ms": 25,
        },
    ),
    "the end of a window": (
        decode_candidate,
        CloseWindow(RULE, 10),
        {"type": "close_window", "rule": RULE_VALUES, "window_start_ms": 10},
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_holds_these_values_in_this_order(name: str) -> None:
    encode_row, decode, row, values = ROWS[name]

    assert msgspec.msgpack.decode(encode_row(row)) == values
    assert decode(msgspec.msgpack.encode(values)) == row


@pytest.mark.parametrize("name", OLDEST)
def test_a_row_without_the_fields_that_were_appended_is_read(name: str) -> None:
    decode, values, row = OLDEST[name]

    assert decode(msgspec.msgpack.encode(values)) == row


@pytest.mark.parametrize("name", ENVELOPES)
def test_an_envelope_holds_these_values_under_these_names(name: str) -> None:
    decode, envelope, values = ENVELOPES[name]

    assert json.loads(encode(envelope)) == values
    assert decode(json.dumps(values, separators=(",", ":")).encode()) == envelope


def test_rows_are_kept_under_these_keys() -> None:
    keys = [window_key("r"), id_key("a"), START, held_key(b"8 bytes!"), MARKS_KEY]

    assert keys == [b"wr", b"ia", b"l", b"held8 bytes!", b"forgotten"]


def test_a_held_history_holds_its_rule_and_spans() -> None:
    history, values = bytes.fromhex(HISTORY), ["r", [[5, 9]]]
    table = MemoryTable()
    held = Held(table)
    held.hold("r", history, 5, 0)
    held.release(history, 9)

    assert msgspec.msgpack.decode(table.get(held_key(history)) or b"") == values
    table = MemoryTable()
    table.put(held_key(history), msgspec.msgpack.encode(["r", [[5]]]))
    assert Held(table).open() == {history}


def test_the_marks_of_forgotten_histories_are_offsets_by_history() -> None:
    table = MemoryTable()
    Forgotten(table).mark(bytes.fromhex(HISTORY), 7)

    assert table.get(MARKS_KEY) == msgspec.msgpack.encode({bytes.fromhex(HISTORY): 7})
    assert Forgotten(table).before(bytes.fromhex(HISTORY) + b"x") == 7
