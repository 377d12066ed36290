from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.event_clock import EventClock
from pipeline.engine.first_seen import FirstSeen
from pipeline.engine.first_seen_rows import encode_row
from pipeline.engine.forgotten import Forgotten
from pipeline.engine.row_counts import RowCounts
from pipeline.engine.sweep import Reason, Sweep, SweepSettings
from pipeline.engine.tables import MemoryTable
from pipeline.engine.wire import Forget, Observation
from tests.rows import rows
from tests.sightings import HISTORY, HOUR, OTHER_HISTORY, observation

DAY = 24 * HOUR
WINDOW = 10 * DAY
NOW = 1_000 * DAY


def observed(term: str, time_ms: int, rule: str = "rule") -> Observation:
    history = HISTORY if rule == "rule" else OTHER_HISTORY
    return observation(term, time_ms, history=history, window_ms=WINDOW, rule_id=rule)


class State:
    """A partition as the driver holds it; every observation is committed at once."""

    def __init__(self, limit: int | None = None, settings: SweepSettings | None = None) -> None:
        self.table = MemoryTable()
        self.row_counts = RowCounts(limit)
        self.first_seen = FirstSeen(self.table, self.row_counts)
        self.sweep = Sweep(
            self.table,
            self.row_counts,
            self.first_seen.forgotten,
            self.first_seen.clock,
            settings or SweepSettings(DAY, 0),
        )
        self.offset = 0
        self.committed = 0

    def see(self, term: str, time_ms: int, rule: str = "rule") -> bool:
        seen = self.first_seen.observe(observed(term, time_ms, rule), self.offset, 0)
        self.offset += 1
        self.committed = self.offset
        return seen.new

    def passes(self, count: int, *, now_ms: int = NOW, rows: int = 1000) -> list[str]:
        """Finish so many passes; return the terms that left, in order."""
        known = {key: row.terms[0] for key, row in self._rows()}
        end = self.sweep.passes + count
        left = []
        while self.sweep.passes < end:
            removed = self.sweep.step(now_ms, self.committed, rows=rows, removals=1000)
            left += [str(known[removal.key]) for removal in removed]
        return left

    def terms(self) -> set[str]:
        return {str(row.terms[0]) for _, row in self._rows()}

    def _rows(self):
        return rows(self.table)


def test_a_term_leaves_once_it_is_older_than_its_history_and_the_grace() -> None:
    """#when-a-term-leaves: later than both together, not sooner."""
    state = State()
    state.see("old", NOW - WINDOW - DAY - 1)
    state.see("at the edge", NOW - WINDOW - DAY)
    state.see("fresh", NOW)

    assert ["old"] == state.passes(2)
    assert {"at the edge", "fresh"} == state.terms()


def test_the_first_pass_after_a_start_only_looks() -> None:
    state = State()
    state.see("old", NOW - 2 * WINDOW)
    state.see("fresh", NOW)

    assert [] == state.passes(1)
    assert 2 == state.row_counts.of("rule")


def test_a_term_that_was_seen_since_the_pass_before_began_stays_whatever_its_date() -> None:
    """#when-a-term-leaves: a laptop sends a month of events in a minute, and they are being seen."""
    state = State()
    state.see("fresh", NOW)
    state.passes(1)
    state.see("from the laptop", NOW - 2 * WINDOW)

    assert [] == state.passes(1)
    assert not state.see("from the laptop", NOW - 2 * WINDOW + HOUR)


def test_time_is_that_of_the_events_so_that_a_replay_of_old_ones_forgets_nothing() -> None:
    """#when-a-term-leaves: by event time."""
    state = State()
    state.see("a", NOW - 500 * DAY)
    state.see("b", NOW - 500 * DAY + WINDOW)

    assert [] == state.passes(3)


def test_time_is_never_later_than_the_wall_clock() -> None:
    """#when-a-term-leaves: nor is the event clock."""
    state = State()
    state.see("from the future", NOW + 900 * DAY)
    state.see("fresh", NOW)

    assert [] == state.passes(3)


def test_a_quiet_partition_learns_the_time_from_its_rows() -> None:
    state = State()
    state.see("old", NOW - 2 * WINDOW)
    state.see("fresh", NOW)
    restarted = Sweep(
        state.table, RowCounts(), Forgotten(state.table), EventClock(), SweepSettings(DAY, 0)
    )
    removed = []
    while restarted.passes < 2:
        removed += restarted.step(NOW, 2, rows=10, removals=10)

    assert [Reason.EXPIRED] == [removal.reason for removal in removed]


def test_a_row_that_does_not_tell_its_history_never_expires() -> None:
    state = State()
    state.see("old", NOW - 5 * WINDOW)
    ((key, row),) = rows(state.table)
    state.table.put(key, encode_row(msgspec.structs.replace(row, window_ms=0)))
    state.see("fresh", NOW)

    assert [] == state.passes(3)


def test_a_row_that_a_replay_may_ask_for_stays() -> None:
    state = State()
    state.see("old", NOW - 2 * WINDOW)
    state.see("fresh", NOW)
    state.committed = 0

    assert [] == state.passes(3)


def test_without_a_grace_nothing_expires() -> None:
    state = State(settings=SweepSettings(None, 0))
    state.see("old", NOW - 5 * WINDOW)
    state.see("fresh", NOW)

    assert [] == state.passes(3)


def test_a_step_looks_at_no_more_rows_and_removes_no_more_than_it_may() -> None:
    state = State()
    for number in range(50):
        state.see(f"old {number}", NOW - 2 * WINDOW)
    state.see("fresh", NOW)
    state.passes(1)

    by_removals = state.sweep.step(NOW, state.committed, rows=1000, removals=7)
    by_rows = state.sweep.step(NOW, state.committed, rows=5, removals=1000)
    by_time = state.sweep.step(NOW, state.committed, rows=1000, removals=1000, enough=lambda: True)

    assert 7 == len(by_removals)
    assert len(by_rows) in {4, 5}  # the fresh one may be among them
    assert len(by_time) <= 1


def test_a_pass_waits_for_its_pause() -> None:
    state = State(settings=SweepSettings(DAY, pause_ms=1_000))
    state.see("old", NOW - 2 * WINDOW)
    state.see("fresh", NOW)
    state.passes(1)

    assert [] == state.sweep.step(NOW + 999, state.committed, rows=10, removals=10)
    assert 1 == len(state.sweep.step(NOW + 1_000, state.committed, rows=10, removals=10))


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), max_size=60),
    st.integers(1, 7),
)
def test_a_sweep_changes_no_verdict_on_events_that_are_not_later_than_the_grace(
    sightings: list[tuple[int, int]], every: int
) -> None:
    """The same sightings, with sweeps in between and without, in order of time."""
    swept, untouched = State(), State()
    times = sorted(day for _, day in sightings)
    for number, ((term, _), day) in enumerate(zip(sightings, times, strict=True)):
        time_ms = NOW + day * DAY
        assert untouched.see(str(term), time_ms) == swept.see(str(term), time_ms)
        if number % every == 0:
            swept.passes(2, now_ms=time_ms, rows=every)


# -- the bound of a rule


def test_a_full_rule_tells_new_terms_and_does_not_remember_them() -> None:
    state = State(limit=2)
    state.passes(1)

    assert [True, True, True, True] == [state.see(term, NOW) for term in "abcc"]
    assert {"a", "b"} == state.terms()


def test_a_full_rule_keeps_what_it_knows_and_other_rules_have_room() -> None:
    state = State(limit=2)
    state.passes(1)
    for term in "abcdef":
        state.see(term, NOW)

    assert not state.see("a", NOW + HOUR)
    assert state.see("x", NOW, rule="other")
    assert not state.see("x", NOW, rule="other")


def test_a_full_rule_has_room_again_when_terms_expire() -> None:
    state = State(limit=2)
    state.passes(1)
    state.see("old", NOW - 2 * WINDOW)
    state.see("fresh", NOW)
    assert state.see("refused", NOW)
    assert ["old"] == state.passes(2)

    assert state.see("later", NOW)
    assert not state.see("later", NOW)


def test_rows_that_come_and_go_during_the_first_pass_are_counted_once() -> None:
    state = State()
    for number in range(20):
        state.see(str(number), NOW)
    restarted = RowCounts()
    first_seen = FirstSeen(state.table, restarted)
    sweep = Sweep(
        state.table, restarted, first_seen.forgotten, first_seen.clock, SweepSettings(DAY, 0)
    )
    number = 100
    while sweep.passes == 0:
        sweep.step(NOW, 0, rows=3, removals=10)
        first_seen.observe(observed(str(number), NOW), number, 0)
        number += 1

    assert len(state.table) == restarted.of("rule")


def test_rows_that_are_forgotten_during_the_first_pass_make_room() -> None:
    state = State(limit=2)
    for term in ("a", "b"):
        state.see(term, NOW)
        row = Forget("rule", HISTORY, observed(term, NOW).key().hex())
        state.first_seen.forget(row, state.offset, 0)
        state.offset += 1
    state.committed = state.offset
    restarted = RowCounts(2)
    sweep = Sweep(
        state.table, restarted, Forgotten(state.table), EventClock(), SweepSettings(DAY, 0)
    )

    left = sweep.step(NOW, state.committed, rows=10, removals=10)

    assert [Reason.FORGOTTEN] * 2 == [removal.reason for removal in left]
    assert 0 == restarted.of("rule")


def test_forget_oldest_brings_a_full_rule_below_its_bound_oldest_first() -> None:
    state = State(limit=10, settings=SweepSettings(DAY, 0, forget_oldest=True))
    state.passes(1)
    for number in range(10):
        state.see(str(number), NOW + number * HOUR)
    assert state.see("refused", NOW + 10 * HOUR)

    assert ["0"] == state.passes(3, now_ms=NOW + 10 * HOUR)
    assert state.see("remembered", NOW + 10 * HOUR)
    assert not state.see("remembered", NOW + 10 * HOUR)


def test_forget_oldest_takes_as_many_as_are_too_many() -> None:
    state = State(limit=40, settings=SweepSettings(DAY, 0, forget_oldest=True))
    state.passes(1)
    for number in range(40):
        state.see(str(number), NOW + number * HOUR)

    assert {"0", "1", "2", "3"} == set(state.passes(3, now_ms=NOW + 40 * HOUR))
    assert [] == state.passes(3, now_ms=NOW + 40 * HOUR)


def test_forget_oldest_takes_no_more_of_an_hour_than_are_too_many() -> None:
    state = State(limit=40, settings=SweepSettings(DAY, 0, forget_oldest=True))
    state.passes(1)
    for number in range(40):
        state.see(str(number), NOW)

    assert 4 == len(state.passes(3, now_ms=NOW + HOUR))
    assert 36 == len(state.terms())


def test_passes_follow_one_another_without_a_pause_only_while_a_rule_has_too_many_terms() -> None:
    state = State(limit=40, settings=SweepSettings(DAY, pause_ms=1_000, forget_oldest=True))
    for number in range(40):
        state.see(str(number), NOW)
    # The first pass finds that there are too many, the second takes them.
    for _ in range(9):
        state.sweep.step(NOW, state.committed, rows=1000, removals=1000)

    assert (36, 2) == (len(state.terms()), state.sweep.passes)


def test_a_pass_goes_on_where_a_full_slice_has_ended() -> None:
    state = State()
    for number in range(5):
        state.see(str(number), NOW)
    state.passes(2)
    state.see("later", NOW + 30 * DAY)
    end = state.sweep.passes + 1
    slices = []
    while state.sweep.passes < end:
        later = NOW + 30 * DAY
        slices.append(len(state.sweep.step(later, state.committed, rows=1000, removals=2)))

    assert [2, 2, 1] == [removed for removed in slices if removed]
    assert {"later"} == state.terms()


def test_forget_oldest_without_a_bound_forgets_nothing() -> None:
    state = State(settings=SweepSettings(DAY, 0, forget_oldest=True))
    state.see("a", NOW)

    assert [] == state.passes(3)
