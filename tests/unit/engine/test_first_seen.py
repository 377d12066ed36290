from __future__ import annotations

import msgspec
import pytest

from pipeline.engine.first_seen import FirstSeen, FirstSeenVerdict
from pipeline.engine.first_seen_rows import TERM_CHARACTERS, decode_row
from pipeline.engine.tables import MemoryTable
from pipeline.errors import StateError
from tests.rows import rows
from tests.sightings import HISTORY, HOUR, OTHER_HISTORY, observation


def test_an_unknown_tuple_is_new() -> None:
    sighting = FirstSeen(MemoryTable()).observe(observation(time_ms=5), 0, 0)

    assert FirstSeenVerdict(True, False, None, 5, 5, 1) == sighting


def test_a_tuple_is_new_again_only_after_more_than_its_history() -> None:
    first_seen = FirstSeen(MemoryTable())
    first_seen.observe(observation(), 0, 0)

    at_the_edge = first_seen.observe(observation(time_ms=HOUR), 1, 0)
    beyond = first_seen.observe(observation(time_ms=2 * HOUR + 1), 2, 0)

    assert FirstSeenVerdict(False, False, None, 0, HOUR, 2) == at_the_edge
    assert FirstSeenVerdict(True, False, HOUR, 2 * HOUR + 1, 2 * HOUR + 1, 1) == beyond


def test_histories_do_not_share_what_they_have_seen() -> None:
    first_seen = FirstSeen(MemoryTable())
    first_seen.observe(observation(), 0, 0)

    assert first_seen.observe(observation(history=OTHER_HISTORY), 1, 0).new


def test_a_replay_changes_nothing_and_writes_the_row_once_more() -> None:
    written: list[bytes] = []

    class Recorded(MemoryTable):
        def put(self, key: bytes, value: bytes) -> None:
            written.append(value)
            super().put(key, value)

    first_seen = FirstSeen(Recorded())
    first_seen.observe(observation(), 7, 0)

    again = first_seen.observe(observation(), 7, 0)

    assert FirstSeenVerdict(True, True, None, 0, 0, 1) == again
    assert written[0] == written[1]


def test_stamps_live_until_they_are_below_the_committed_offset() -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)
    for offset in range(3):
        first_seen.observe(observation(time_ms=offset * 2 * HOUR), offset, 0)
    stamps = [row.stamps for _, row in rows(table)]

    first_seen.observe(observation(time_ms=4 * HOUR), 3, 1)

    assert [((0, None), (1, 0), (2, 2 * HOUR))] == stamps
    assert [((1, 0), (2, 2 * HOUR))] == [row.stamps for _, row in rows(table)]


def test_a_row_keeps_the_start_of_a_long_term_and_the_key_tells_them_apart() -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)
    long = "x" * (TERM_CHARACTERS + 1)

    assert first_seen.observe(observation(long + "1"), 0, 0).new
    assert first_seen.observe(observation(long + "2"), 1, 0).new
    assert [("x" * TERM_CHARACTERS,)] * 2 == [row.terms for _, row in rows(table)]


def test_rows_pass_over_entries_that_are_no_tuples() -> None:
    table = MemoryTable()
    table.put(b"other", b"thing")
    FirstSeen(table).observe(observation(), 0, 0)

    ((key, row),) = rows(table)

    assert bytes.fromhex(HISTORY) == key[:8]
    assert ("rule", ("a",), HOUR) == (row.rule_id, row.terms, row.window_ms)


def test_a_damaged_or_newer_row_is_a_state_error() -> None:
    with pytest.raises(StateError, match="delete the local state folder"):
        decode_row(b"\x00")
    with pytest.raises(StateError, match="format 9"):
        decode_row(msgspec.msgpack.encode([9, "r", [], 0, 0, 0, 0]))
