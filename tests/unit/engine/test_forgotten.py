from __future__ import annotations

import msgspec
import pytest

from pipeline.engine.first_seen import FirstSeen
from pipeline.engine.first_seen_rows import decode_row
from pipeline.engine.forgotten import MARKS_KEY, Forgotten
from pipeline.engine.row_counts import RowCounts
from pipeline.engine.sweep import Sweep, SweepSettings
from pipeline.engine.tables import MemoryTable
from pipeline.engine.wire import Forget, Learn
from pipeline.errors import StateError
from tests.rows import rows
from tests.sightings import HISTORY, HOUR, OTHER_HISTORY, observation


def learned(term: str, first_ms: int, last_ms: int, count: int = 1) -> Learn:
    return Learn("rule", HISTORY, HOUR, (term,), first_ms, last_ms, count)


def row_of(table: MemoryTable, term: str):
    value = table.get(observation(term).key())
    return None if value is None else decode_row(value)


def swept(table: MemoryTable, first_seen: FirstSeen, committed: int, passes: int = 1) -> int:
    """Return how many rows leave in so many passes."""
    sweep = Sweep(
        table, RowCounts(), first_seen.forgotten, first_seen.clock, SweepSettings(None, 0)
    )
    left = 0
    while sweep.passes < passes:
        left += len(sweep.step(0, committed, rows=3, removals=2))
    return left


def test_a_learned_term_is_known() -> None:
    first_seen = FirstSeen(MemoryTable())

    assert first_seen.learn(learned("a", 0, 10), 0, 0)

    assert not first_seen.observe(observation("a", HOUR + 10), 1, 0).new
    assert first_seen.observe(observation("b", HOUR), 2, 0).new


def test_a_learned_term_is_new_again_after_its_history() -> None:
    first_seen = FirstSeen(MemoryTable())
    first_seen.learn(learned("a", 0, 10), 0, 0)

    again = first_seen.observe(observation("a", HOUR + 11), 1, 0)

    assert (True, 10) == (again.new, again.previous_ms)


def test_learning_widens_what_is_known_and_twice_is_as_once() -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)
    first_seen.observe(observation("a", 500), 0, 0)
    first_seen.learn(learned("a", 100, 900, 7), 1, 0)
    once = row_of(table, "a")

    first_seen.learn(learned("a", 100, 900, 7), 2, 0)

    assert (100, 900, 7) == (once.first_ms, once.last_ms, once.count)
    assert once == msgspec.structs.replace(row_of(table, "a"), offset=1)


@pytest.mark.parametrize(("told", "count"), [(0, 1), (7, 7)])
def test_a_learned_term_counts_as_often_as_it_was_seen_and_once_at_least(
    told: int, count: int
) -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)
    first_seen.learn(learned("a", 0, 10, told), 0, 0)

    assert count == row_of(table, "a").count
    assert not first_seen.observe(observation("a", 20), 1, 0).new


def test_a_full_rule_learns_nothing_new() -> None:
    row_counts = RowCounts(1)
    row_counts.all_reached()
    table = MemoryTable()
    first_seen = FirstSeen(table, row_counts)

    assert [True, False, True] == [
        first_seen.learn(learned(term, 0, 0), offset, 0) for offset, term in enumerate("aba")
    ]
    assert 1 == len(table)


def test_a_forgotten_term_is_new_with_no_time_before() -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)
    first_seen.observe(observation("a"), 0, 0)
    first_seen.forget(Forget("rule", HISTORY, observation("a").key().hex()), 1, 0)

    again = first_seen.observe(observation("a", 5), 2, 0)

    assert (True, None) == (again.new, again.previous_ms)
    assert (1, 5) == (row_of(table, "a").count, row_of(table, "a").first_ms)


def test_a_term_that_was_seen_since_it_was_forgotten_stays_known_when_that_is_read_again() -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)
    forget = Forget("rule", HISTORY, observation("a").key().hex())
    first_seen.observe(observation("a"), 0, 0)
    first_seen.forget(forget, 1, 0)
    first_seen.observe(observation("a", 5), 2, 0)
    before = row_of(table, "a")

    first_seen.forget(forget, 1, 0)

    assert before == row_of(table, "a")
    assert not first_seen.observe(observation("a", 6), 3, 0).new


def test_a_forgotten_term_leaves_once_its_record_is_committed() -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)
    first_seen.observe(observation("a"), 0, 0)
    first_seen.forget(Forget("rule", HISTORY, observation("a").key().hex()), 1, 0)

    assert [0, 1] == [swept(table, first_seen, committed) for committed in (1, 2)]
    assert 0 == len(table)


def test_forgetting_what_is_not_known_leaves_nothing_behind() -> None:
    table = MemoryTable()

    FirstSeen(table).forget(Forget("rule", HISTORY, observation("a").key().hex()), 1, 0)

    assert 0 == len(table)


def test_a_forgotten_history_is_new_and_the_others_are_not() -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)
    first_seen.observe(observation("a"), 0, 0)
    first_seen.observe(observation("a", history=OTHER_HISTORY), 1, 0)
    first_seen.forget(Forget("rule", HISTORY), 2, 0)

    again = first_seen.observe(observation("a"), 3, 0)
    other = first_seen.observe(observation("a", history=OTHER_HISTORY), 4, 0)

    assert (True, None, False) == (again.new, again.previous_ms, other.new)
    assert not first_seen.observe(observation("a"), 5, 0).new


def test_a_forgotten_history_survives_a_restart() -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)
    first_seen.observe(observation("a"), 0, 0)
    first_seen.forget(Forget("rule", HISTORY), 1, 0)

    assert FirstSeen(table).observe(observation("a"), 2, 0).new


def test_the_rows_of_a_forgotten_history_leave_in_slices_and_then_its_mark() -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)
    for number in range(20):
        first_seen.observe(observation(str(number)), number, 0)
        first_seen.observe(observation(str(number), history=OTHER_HISTORY), number, 0)
    first_seen.forget(Forget("rule", HISTORY), 20, 0)
    first_seen.observe(observation("after"), 21, 0)

    assert 0 == swept(table, first_seen, 20)
    assert 20 == swept(table, first_seen, 21)

    assert 21 == len([row for _, row in rows(table)])
    assert table.get(MARKS_KEY) is None
    assert not first_seen.observe(observation("after"), 22, 0).new


def test_a_mark_leaves_however_many_terms_were_seen_since() -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)
    first_seen.observe(observation("before"), 0, 0)
    first_seen.forget(Forget("rule", HISTORY), 1, 0)
    for number in range(20):
        first_seen.observe(observation(str(number)), 2 + number, 0)
    sweep = Sweep(
        table, RowCounts(), first_seen.forgotten, first_seen.clock, SweepSettings(None, 0)
    )

    for _ in range(10):
        sweep.step(0, 22, rows=3, removals=2)

    assert table.get(MARKS_KEY) is None
    assert 20 == len(table)


def test_marks_that_cannot_be_read_say_so() -> None:
    table = MemoryTable()
    table.put(MARKS_KEY, b"\xc1")

    with pytest.raises(StateError, match="delete the local state folder"):
        Forgotten(table)


def test_a_forgotten_history_leaves_in_slices_that_end_when_they_have_taken_enough() -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)
    for number in range(9):
        first_seen.observe(observation(str(number)), number, 0)
    first_seen.forget(Forget("rule", HISTORY), 9, 0)
    sweep = Sweep(
        table, RowCounts(), first_seen.forgotten, first_seen.clock, SweepSettings(None, 0)
    )

    assert 4 == len(sweep.step(0, 10, rows=100, removals=4))
    assert 1 == len(sweep.step(0, 10, rows=100, removals=100, enough=lambda: True))
    assert 4 == len(sweep.step(0, 10, rows=100, removals=100))
