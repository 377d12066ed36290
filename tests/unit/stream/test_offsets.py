"""Committable positions, against a naive model."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.stream.offsets import OffsetTracker

P = ("topic", 0)


def test_nothing_scanned_is_nothing_to_commit():
    assert OffsetTracker().committable(P) is None


def test_a_commit_never_passes_a_record_in_flight():
    tracker = OffsetTracker()
    tracker.scanned(P, 100, 103, [100, 101, 102])
    tracker.acknowledge(P, [101, 102])

    assert tracker.committable(P) == 100


def test_an_all_skipped_tail_is_committable():
    tracker = OffsetTracker()
    tracker.scanned(P, 0, 5_000, [])

    assert tracker.committable(P) == 5_000


def test_a_gap_before_a_record_in_flight_is_committable_up_to_the_record():
    tracker = OffsetTracker()
    tracker.scanned(P, 100, 107, [100, 105, 106])
    tracker.acknowledge(P, [100, 106])

    assert tracker.committable(P) == 105


def test_a_forgotten_partition_ignores_late_acknowledgements():
    tracker = OffsetTracker()
    tracker.scanned(P, 7, 9, [7, 8])

    assert tracker.forget(P) == 7

    tracker.acknowledge(P, [7, 8])

    assert tracker.committable(P) is None


def test_a_tail_of_which_nothing_is_delivered_is_committable_behind_the_last_record():
    tracker = OffsetTracker()
    tracker.begin(P, 5)
    tracker.scanned(P, 5, 7, [5, 6])
    tracker.passed(P, 9)
    assert tracker.committable(P) == 5

    tracker.acknowledge(P, [5, 6])

    assert tracker.committable(P) == 9


def test_a_partition_begun_without_a_position_has_nothing_to_commit_until_one_is_known():
    tracker = OffsetTracker()
    tracker.begin(P, None)
    assert tracker.committable(P) is None

    tracker.passed(P, 4)

    assert tracker.committable(P) == 4


def test_a_forgotten_partition_learns_no_position_before_it_is_begun_again():
    """Records that were delivered and dropped at a rebalance may lie before the position."""
    tracker = OffsetTracker()
    tracker.begin(P, 0)
    tracker.scanned(P, 0, 3, [0, 1, 2])
    tracker.forget(P)

    tracker.passed(P, 3)
    assert tracker.committable(P) is None

    tracker.begin(P, 0)
    assert tracker.committable(P) == 0


def test_reading_goes_back_to_the_first_record_where_the_beginning_was_unknown():
    tracker = OffsetTracker()
    tracker.begin(P, None)
    tracker.scanned(P, 12, 14, [12, 13])
    tracker.scanned(P, 14, 15, [14])

    assert tracker.forget(P) == 12
    assert tracker.forget(P) is None


class Naive(RuleBasedStateMachine):
    """Fetches with gaps, acknowledgements in any order, seeks back to what was committed."""

    @initialize()
    def start(self) -> None:
        self.tracker: OffsetTracker[tuple[str, int]] = OffsetTracker()
        self.position = 0
        self.in_flight: set[int] = set()
        self.scanned = False

    @rule(steps=st.lists(st.sampled_from(["deliver", "skip"]), min_size=1, max_size=20))
    def fetch(self, steps: list[str]) -> None:
        base = self.position
        delivered = [base + i for i, step in enumerate(steps) if step == "deliver"]
        self.position += len(steps)
        self.tracker.scanned(P, base, self.position, delivered)
        self.in_flight |= set(delivered)
        self.scanned = True

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        if self.in_flight:
            offset = data.draw(st.sampled_from(sorted(self.in_flight)))
            self.in_flight.discard(offset)
            self.tracker.acknowledge(P, [offset])

    @rule()
    def seek_to_committable(self) -> None:
        committable = self.tracker.committable(P)
        if committable is not None:
            self.tracker.forget(P)
            self.position = committable
            self.in_flight.clear()
            self.scanned = False

    @invariant()
    def committable_is_the_smallest_in_flight_else_the_position(self) -> None:
        expected = min(self.in_flight) if self.in_flight else self.position

        assert self.tracker.committable(P) == (expected if self.scanned else None)
        assert self.tracker.in_flight(P) == len(self.in_flight)


TestNaive = Naive.TestCase


@given(st.integers(0, 10**12), st.integers(1, 10**9))
def test_a_long_run_of_skipped_records_costs_nothing(base: int, length: int):
    tracker = OffsetTracker()
    tracker.scanned(P, base, base + length, [])

    assert tracker.committable(P) == base + length
