from __future__ import annotations

import pytest

from pipeline.engine.first_seen import FirstSeen, FirstSeenVerdict
from pipeline.engine.held import Held, held_key
from pipeline.engine.tables import MemoryTable
from pipeline.engine.wire import Hold, Learn, Release
from pipeline.errors import StateError
from tests.sightings import HISTORY, HOUR, OTHER_HISTORY, observation

HOLD = Hold("rule", HISTORY)
RELEASE = Release("rule", HISTORY)


def observe(
    first_seen: FirstSeen, offset: int, term: str = "a", history: str = HISTORY
) -> FirstSeenVerdict:
    return first_seen.observe(observation(term, history=history), offset, 0)


def test_a_held_history_judges_nothing_and_remembers_nothing() -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)
    first_seen.hold(HOLD, 0, 0)

    held = observe(first_seen, 1)

    assert (True, False) == (held.held, held.new)
    assert [held_key(bytes.fromhex(HISTORY))] == [key for key, _ in table.items()]


def test_other_histories_go_on() -> None:
    first_seen = FirstSeen(MemoryTable())
    first_seen.hold(HOLD, 0, 0)

    assert observe(first_seen, 1, history=OTHER_HISTORY).new


def test_a_released_history_knows_what_it_learned_and_tells_the_rest() -> None:
    first_seen = FirstSeen(MemoryTable())
    first_seen.hold(HOLD, 0, 0)
    first_seen.learn(Learn("rule", HISTORY, HOUR, ("a",), 0, 0), 1, 0)
    first_seen.release(RELEASE, 2)

    assert [False, True] == [observe(first_seen, 3, "a").new, observe(first_seen, 4, "b").new]


@pytest.mark.parametrize("committed", [0, 2, 4, 9])
def test_what_was_held_is_held_when_it_is_read_again(committed: int) -> None:
    """Whatever came since: only offsets below `committed` are never read again."""
    table = MemoryTable()
    first_seen = FirstSeen(table)
    first_seen.hold(HOLD, 1, 0)
    first_seen.release(RELEASE, 3)
    first_seen.hold(HOLD, 5, committed)
    first_seen.release(RELEASE, 8)
    first_seen.hold(HOLD, 10, committed)
    first_seen.release(RELEASE, 12)

    again = FirstSeen(table)
    for offset in range(committed, 14):
        assert observe(again, offset, str(offset)).held == (offset in {1, 2, 5, 6, 7, 10, 11})


def test_a_hold_that_is_asked_for_twice_begins_with_the_first_and_ends_once() -> None:
    first_seen = FirstSeen(MemoryTable())
    first_seen.hold(HOLD, 1, 0)
    first_seen.hold(HOLD, 3, 9)
    first_seen.release(RELEASE, 5)
    first_seen.release(RELEASE, 7)

    assert [1, 2, 3, 4] == [n for n in range(10) if observe(first_seen, n, str(n)).held]


def test_a_release_that_is_read_again_does_not_end_a_later_hold() -> None:
    held = Held(MemoryTable())
    history = bytes.fromhex(HISTORY)
    held.hold("rule", history, 0, 0)
    held.release(history, 10)
    held.hold("rule", history, 20, 0)

    held.release(history, 10)

    assert {history} == held.open()


def test_a_release_without_a_hold_changes_nothing() -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)

    first_seen.release(RELEASE, 0)

    assert not first_seen.held.taught(bytes.fromhex(HISTORY))
    assert observe(first_seen, 1).new


def test_no_row_grows_with_the_number_of_histories() -> None:
    """Else a row would in the end be too large for the changelog, and no worker could start."""
    table = MemoryTable()
    held = Held(table)
    for number in range(1_000):
        held.hold("rule", number.to_bytes(8, "big"), number, 0)

    assert max(len(value) for _, value in table.items()) < 100
    assert held.open() == Held(table).open()
    assert 1_000 == len(held.open())


def test_rows_that_only_begin_alike_are_none_of_held_histories() -> None:
    table = MemoryTable()
    table.put(b"held" + b"x" * 20, b"a row of first seen")
    table.put(b"heln", b"another one")
    Held(table).hold("rule", bytes.fromhex(HISTORY), 0, 0)

    assert {bytes.fromhex(HISTORY)} == Held(table).open()


def test_the_holds_that_are_open_are_told() -> None:
    held = Held(MemoryTable())
    held.hold("rule", bytes.fromhex(HISTORY), 0, 0)
    held.hold("rule", bytes.fromhex(OTHER_HISTORY), 1, 0)
    held.hold("other", b"12345678", 2, 0)
    held.release(b"12345678", 3)

    assert {bytes.fromhex(HISTORY), bytes.fromhex(OTHER_HISTORY)} == held.open()


def test_a_history_that_was_taught_stays_so_when_it_is_held_again() -> None:
    history = bytes.fromhex(HISTORY)
    held = Held(MemoryTable())
    held.hold("rule", history, 0, 0)
    before = held.taught(history)
    held.release(history, 3)
    held.hold("rule", history, 5, 9)

    assert (False, True) == (before, held.taught(history))


def test_a_damaged_row_says_what_to_do() -> None:
    table = MemoryTable()
    table.put(held_key(bytes.fromhex(HISTORY)), b"\xff")

    with pytest.raises(StateError, match="delete the local state folder"):
        Held(table)


def test_what_may_be_held_from_an_offset_on_is_known_without_a_look_at_all_histories() -> None:
    held = Held(MemoryTable())
    first, second = bytes.fromhex(HISTORY), bytes.fromhex(OTHER_HISTORY)
    held.hold("rule", first, 10, 0)
    assert {first} == held.held_after(11)
    held.release(first, 20)
    held.hold("rule", second, 15, 0)

    assert {first, second} == held.held_after(19)
    assert {second} == held.held_after(20)
    held.release(second, 30)
    assert set() == held.held_after(30)
    assert {} == held._recent
    assert {first, second} == held.held_after(5)  # read again


def test_what_is_held_again_may_be_held_from_before_it_on() -> None:
    """Code that is not Python passes over no sighting of it: `pipeline.engine.seen_again`."""
    held = Held(MemoryTable())
    history = bytes.fromhex(HISTORY)
    held.hold("rule", history, 0, 0)
    held.release(history, 10)
    held.hold("rule", history, 20, 0)

    assert {history} == held.held_after(15)
    assert {history} == held.held_after(30)
