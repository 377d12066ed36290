from __future__ import annotations

import json
from collections import Counter

import msgspec
import pytest

from pipeline.engine.identity import summary_id
from pipeline.engine.learning import LearningPeriods, mark_learning
from pipeline.engine.quota import Decision, Quota, Verdict
from pipeline.engine.quota_rows import decode_window
from pipeline.engine.tables import MemoryTable
from pipeline.engine.wire import CloseWindow, NewTerm, RuleRef
from pipeline.errors import StateError

RULE = RuleRef("rule", "Rule", 1, "high", 73, 100, 300_000, ("process.executable",))
T0 = 1_714_564_800_000  # a multiple of five minutes


def candidate(number: int, rule: RuleRef = RULE) -> NewTerm:
    return NewTerm(
        f"alert-{number}", rule, (f"term-{number}",), 0, 5, msgspec.Raw(b'{"n":%d}' % number)
    )


def admit_all(quota: Quota, numbers: range, now_ms: int = T0) -> list[Decision]:
    return [quota.admit(candidate(n), n, now_ms, 0) for n in numbers]


def test_250_new_terms_in_one_window_are_100_alerts_150_overflows_and_one_summary() -> None:
    table = MemoryTable()
    quota = Quota(table)

    decisions = admit_all(quota, range(250))
    ticks = quota.ended(T0 + 300_000)
    decisions += [quota.close(tick, 250, T0 + 300_000, 0) for tick in ticks]

    outputs = [output for decision in decisions for output in decision.outputs]
    counted = Counter((output.destination, output.summary) for output in outputs)
    assert {("alerts", False): 100, ("overflow", False): 150, ("alerts", True): 1} == counted
    summary = json.loads(outputs[-1].value)
    overflow = summary["detection"]["overflow"]
    assert (250, 150, 100) == (overflow["total"], overflow["count"], overflow["limit"])
    assert [f"term-{n}" for n in range(100, 110)] == [
        each["new_terms"][0]["value"] for each in overflow["sample"]
    ]
    assert outputs[-1].key == summary_id("rule", T0).encode()
    assert outputs[-1].source_timestamp_ms is None


def test_a_window_closes_the_same_by_a_tick_and_by_the_next_candidate() -> None:
    """#what-goes-by-the-wall-clock: windows are of the moment at which the quota decides."""
    by_tick, by_candidate = Quota(MemoryTable()), Quota(MemoryTable())
    admit_all(by_tick, range(101))
    admit_all(by_candidate, range(101))

    ticked = by_tick.close(CloseWindow(RULE, T0), 101, T0 + 400_000, 0)
    followed = by_candidate.admit(candidate(101), 101, T0 + 900_000, 0)

    assert ticked.outputs[0] == followed.outputs[0]
    assert [True, False] == [output.summary for output in followed.outputs]
    # Whichever comes second finds it told.
    assert () == by_candidate.close(CloseWindow(RULE, T0), 102, T0 + 999_999, 0).outputs
    late = by_tick.admit(candidate(102), 102, T0 + 900_000, 0)
    assert [False] == [output.summary for output in late.outputs]


def test_a_later_tick_raises_no_second_summary_and_none_of_a_window_within_its_quota() -> None:
    over, within = Quota(MemoryTable()), Quota(MemoryTable())
    admit_all(over, range(101))
    admit_all(within, range(100))
    tick, end_ms = CloseWindow(RULE, T0), T0 + 300_000
    over.close(tick, 101, end_ms, 0)

    assert () == over.close(tick, 102, end_ms, 0).outputs
    assert () == within.close(tick, 100, end_ms, 0).outputs


def test_a_window_within_its_quota_has_no_summary() -> None:
    quota = Quota(MemoryTable())
    admit_all(quota, range(100))

    assert [] == quota.ended(T0 + 300_000)
    assert 1 == len(quota.admit(candidate(100), 100, T0 + 300_000, 0).outputs)


def test_an_id_that_was_decided_is_a_duplicate_without_output() -> None:
    quota = Quota(MemoryTable())
    quota.admit(candidate(1), 0, T0, 0)

    decision = quota.admit(candidate(1), 1, T0, 0)

    assert Decision(Verdict.DUPLICATE, repeated=False, outputs=()) == decision


def test_ids_expire_a_few_with_each_candidate_once_they_are_old_and_committed() -> None:
    """#what-goes-by-the-wall-clock: how long an id is not told again."""
    table = MemoryTable()
    quota = Quota(table, dedupe_ms=1_000)
    for number in range(5):
        quota.admit(candidate(number), number, T0, 0)

    quota.admit(candidate(5), 5, T0 + 1_000, 3)
    after_one = [f"alert-{n}" for n in range(5) if table.get(b"ialert-%d" % n)]
    quota.admit(candidate(6), 6, T0 + 1_000, 3)
    after_two = [f"alert-{n}" for n in range(5) if table.get(b"ialert-%d" % n)]

    assert ["alert-2", "alert-3", "alert-4"] == after_one
    assert ["alert-3", "alert-4"] == after_two  # not committed yet
    assert Verdict.ALERT is quota.admit(candidate(0), 7, T0 + 1_000, 3).verdict


def test_a_recovered_quota_expires_ids_and_knows_its_open_windows() -> None:
    table = MemoryTable()
    admit_all(Quota(table, dedupe_ms=1_000), range(101))
    quota = Quota(table, dedupe_ms=1_000)

    quota.recover(table.items())

    assert [CloseWindow(RULE, T0)] == quota.ended(T0 + 300_000)
    assert [] == quota.ended(T0 + 299_999)
    quota.admit(candidate(500), 500, T0 + 2_000, 400)
    assert table.get(b"ialert-0") is None


def test_rules_have_quotas_of_their_own() -> None:
    quota = Quota(MemoryTable())
    other = msgspec.structs.replace(RULE, id="other", max_signals=1)
    admit_all(quota, range(100))

    verdicts = [quota.admit(candidate(n, other), n, T0, 0).verdict for n in (200, 201)]

    assert [Verdict.ALERT, Verdict.OVERFLOW] == verdicts


def test_a_clock_that_is_behind_does_not_enter_an_earlier_window_again() -> None:
    table = MemoryTable()
    quota = Quota(table)
    quota.admit(candidate(0), 0, T0, 0)

    quota.admit(candidate(1), 1, T0 - 240_000, 0)

    window = decode_window(table.get(b"wrule") or b"")
    assert (T0, 2) == (window.start_ms, window.alerted)


def test_after_a_tick_a_clock_that_is_behind_begins_the_next_window() -> None:
    table = MemoryTable()
    quota = Quota(table)
    admit_all(quota, range(101))
    quota.close(CloseWindow(RULE, T0), 101, T0 + 300_000, 0)

    decision = quota.admit(candidate(102), 102, T0 + 299_990, 0)

    window = decode_window(table.get(b"wrule") or b"")
    assert Verdict.ALERT is decision.verdict
    assert (T0 + 300_000, T0 + 600_000, 1) == (window.start_ms, window.end_ms, window.alerted)


def test_a_changed_interval_begins_after_the_running_window() -> None:
    table = MemoryTable()
    quota = Quota(table)
    start_ms = T0 + 600_000
    quota.admit(candidate(0), 0, start_ms, 0)
    hourly = msgspec.structs.replace(RULE, interval_ms=3_600_000)

    quota.admit(candidate(1, hourly), 1, start_ms + 300_000, 0)

    window = decode_window(table.get(b"wrule") or b"")
    assert (start_ms + 300_000, T0 + 3_600_000) == (window.start_ms, window.end_ms)


def test_a_replayed_candidate_has_its_outputs_again_with_the_summary_it_raised() -> None:
    table = MemoryTable()
    quota = Quota(table)
    admit_all(quota, range(101))
    first = quota.admit(candidate(101), 101, T0 + 300_000, 0)
    quota.admit(candidate(102), 102, T0 + 300_000, 0)

    again = Quota(table).admit(candidate(101), 101, T0 + 990_000, 0)

    assert (first.verdict, first.outputs) == (again.verdict, again.outputs)
    assert (2, True) == (len(again.outputs), again.repeated)


class Recorded(MemoryTable):
    """A table that remembers what was put, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def put(self, key: bytes, value: bytes) -> None:
        self.written.append(key)
        super().put(key, value)


def test_first_of_all_the_changelog_gets_the_rows_it_may_lack_in_their_order() -> None:
    """The table may be a local copy whose last writes the changelog lacks."""
    table = Recorded()
    narrow = msgspec.structs.replace(RULE, max_signals=0)
    quota = Quota(table)
    summary = b"i" + summary_id("rule", T0).encode()
    quota.admit(newcomer(0, 0, rule=narrow), 0, T0, 0)
    quota.admit(newcomer(1, 0, rule=narrow, history="cd" * 8), 1, T0, 0)
    quota.admit(newcomer(2, 0, rule=narrow), 2, T0 + 300_000, 0)
    after = Quota(table)
    after.recover(table.items())
    table.written.clear()

    # Offset 0 is committed, for 1 is the first that is read.
    after.admit(newcomer(1, 0, rule=narrow, history="cd" * 8), 1, T0, 0)
    first = table.written.copy()
    after.admit(newcomer(2, 0, rule=narrow), 2, T0, 0)

    assert [b"l" + b"cd" * 8, b"ialert-1", summary, b"ialert-2", b"wrule"] == first
    assert first == table.written  # a replay writes nothing more


def test_a_tick_that_came_too_early_decides_nothing_when_it_is_replayed_later() -> None:
    """The candidate after it counts in the window that is over by now."""
    table = MemoryTable()
    admit_all(Quota(table), range(101))
    Quota(table).close(CloseWindow(RULE, T0), 101, T0, 0)
    Quota(table).admit(candidate(102), 102, T0, 0)
    after = Quota(table)
    after.recover(table.items())

    replayed = after.close(CloseWindow(RULE, T0), 101, T0 + 300_000, 0)
    later = after.close(CloseWindow(RULE, T0), 103, T0 + 300_000, 0)

    assert () == replayed.outputs
    (summary,) = later.outputs
    assert 2 == json.loads(summary.value)["detection"]["overflow"]["count"]


YEAR = 365 * 86_400_000


def test_a_window_from_far_ahead_is_dated_anew_with_what_it_counted() -> None:
    """A worker's clock was a year ahead; the next worker's is right."""
    table = MemoryTable()
    quota = Quota(table)
    admit_all(quota, range(150), T0 + YEAR)

    decision = quota.admit(candidate(150), 150, T0, 0)
    ticks = quota.ended(T0 + 300_000)
    (summary,) = quota.close(ticks[0], 151, T0 + 300_000, 0).outputs

    assert Verdict.OVERFLOW is decision.verdict
    assert [CloseWindow(RULE, T0)] == ticks
    overflow = json.loads(summary.value)["detection"]["overflow"]
    assert (51, 151) == (overflow["count"], overflow["total"])


def test_a_window_from_far_ahead_has_its_summary_soon_even_if_nothing_follows() -> None:
    quota = Quota(MemoryTable())
    admit_all(quota, range(150), T0 + YEAR)

    (tick,) = quota.ended(T0)
    first = quota.close(tick, 150, T0, 0)
    again = quota.close(tick, 151, T0 + 300_000, 0)
    (due,) = quota.ended(T0 + 300_000)
    closed = quota.close(due, 152, T0 + 300_000, 0)

    assert [T0 + YEAR, T0] == [tick.window_start_ms, due.window_start_ms]
    assert [(), (), 1] == [first.outputs, again.outputs, len(closed.outputs)]


def test_a_window_that_is_little_ahead_goes_on() -> None:
    """Clocks of workers differ by seconds; that must not give a rule a second quota."""
    quota = Quota(MemoryTable())
    admit_all(quota, range(101), T0)

    assert Verdict.OVERFLOW is quota.admit(candidate(101), 101, T0 - 300_000, 0).verdict
    assert [] == quota.ended(T0 - 300_000)


def test_after_a_window_from_far_ahead_is_closed_the_present_one_begins() -> None:
    table = MemoryTable()
    quota = Quota(table)
    admit_all(quota, range(101), T0 + YEAR)
    quota.close(CloseWindow(RULE, T0 + YEAR), 101, T0 + YEAR + 300_000, 0)

    assert Verdict.ALERT is quota.admit(candidate(102), 102, T0, 0).verdict

    window = decode_window(table.get(b"wrule") or b"")
    assert (T0, T0 + 300_000, 1) == (window.start_ms, window.end_ms, window.alerted)


def test_a_window_that_was_dated_anew_is_closed_once_whatever_a_crash_took() -> None:
    table = MemoryTable()
    quota = Quota(table)
    admit_all(quota, range(150), T0 + YEAR)
    before = table.get(b"wrule")
    ticks = [(CloseWindow(RULE, T0 + YEAR), 150, T0), (CloseWindow(RULE, T0), 151, T0 + DAY)]
    first = [quota.close(*tick, 0) for tick in ticks]
    table.put(b"wrule", before or b"")
    after = Quota(table)
    after.recover(table.items())

    again = [after.close(*tick, 0) for tick in ticks]

    assert [each.outputs for each in first] == [each.outputs for each in again]
    assert [] == after.ended(10**15)


def test_a_crash_after_a_window_from_far_ahead_was_closed_counts_in_the_present_one() -> None:
    table = MemoryTable()
    quota = Quota(table)
    admit_all(quota, range(101), T0 + YEAR)
    quota.close(CloseWindow(RULE, T0 + YEAR), 101, T0 + YEAR + 300_000, 0)
    before = table.get(b"wrule")
    quota.admit(candidate(102), 102, T0, 0)
    written = table.get(b"wrule")
    table.put(b"wrule", before or b"")

    Quota(table).admit(candidate(102), 102, T0, 0)

    assert written == table.get(b"wrule")


def test_no_two_summaries_have_one_id_when_a_clock_comes_back_to_a_window() -> None:
    quota = Quota(MemoryTable())
    summaries = []
    for number, now_ms in enumerate((T0, T0 + YEAR, T0, T0 + YEAR, T0 + YEAR + 300_000)):
        decisions = admit_all(quota, range(200 * number, 200 * (number + 1)), now_ms)
        summaries += [out for each in decisions for out in each.outputs if out.summary]

    assert 3 == len(summaries)
    assert 3 == len({summary.key for summary in summaries})


def test_a_crash_between_the_id_row_and_the_window_row_counts_the_candidate_once() -> None:
    """Case 2 of the module's argument, where the candidate opened a window."""
    table, cut = MemoryTable(), MemoryTable()
    quota = Quota(table)
    admit_all(quota, range(101))
    before = table.get(b"wrule")
    first = quota.admit(candidate(101), 101, T0 + 300_000, 0)
    for key, value in table.items():
        cut.put(key, value)
    cut.put(b"wrule", before or b"")

    again = Quota(cut).admit(candidate(101), 101, T0 + 990_000, 0)

    assert first.outputs == again.outputs
    assert table.get(b"wrule") == cut.get(b"wrule")


def test_a_crash_between_the_rows_of_a_tick_closes_the_window_once() -> None:
    table, cut = MemoryTable(), MemoryTable()
    quota = Quota(table)
    admit_all(quota, range(101))
    before = table.get(b"wrule")
    first = quota.close(CloseWindow(RULE, T0), 101, T0 + 300_000, 0)
    for key, value in table.items():
        cut.put(key, value)
    cut.put(b"wrule", before or b"")

    again = Quota(cut).close(CloseWindow(RULE, T0), 101, T0, 0)

    assert first.outputs == again.outputs
    assert table.get(b"wrule") == cut.get(b"wrule")


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x93\x63", msgspec.msgpack.encode([1, 2])])
@pytest.mark.parametrize("key", [b"wrule", b"ialert-0"])
def test_a_damaged_row_is_a_state_error_that_says_what_to_do(key: bytes, value: bytes) -> None:
    table = MemoryTable()
    table.put(key, value)

    with pytest.raises(StateError, match="delete the local state folder"):
        Quota(table).admit(candidate(0), 0, T0, 0)


def test_a_row_of_a_newer_format_is_a_state_error() -> None:
    table = MemoryTable()
    table.put(b"ialert-0", msgspec.msgpack.encode([2, 0, "alert", 0, 0, 0]))

    with pytest.raises(StateError, match="format 2"):
        Quota(table).admit(candidate(0), 0, T0, 0)


def test_a_term_of_any_length_fits_the_window_row() -> None:
    table = MemoryTable()
    quota = Quota(table)
    narrow = msgspec.structs.replace(RULE, max_signals=0)
    for number in range(12):
        long = msgspec.structs.replace(candidate(number, narrow), terms=("x" * 100_000, 7))
        quota.admit(long, number, T0, 0)

    assert len(table.get(b"wrule") or b"") < 10_000


# -- learning

DAY = 86_400_000
HISTORY = "ab" * 8


def newcomer(
    number: int,
    time_ms: int,
    *,
    history: str = HISTORY,
    rule: RuleRef = RULE,
    clock_ms: int = 0,
) -> NewTerm:
    document = msgspec.Raw(b'{"n":%d,"detection":{"kind":"new_term"}}' % number)
    terms = (f"t{number}",)
    return NewTerm(f"alert-{number}", rule, terms, time_ms, 5, document, history, clock_ms)


def learning_quota(table: MemoryTable | None = None, **by_rule: int) -> Quota:
    return Quota(
        MemoryTable() if table is None else table, learning=LearningPeriods(7 * DAY, by_rule)
    )


def test_new_terms_go_to_the_overflow_marked_until_the_history_has_learned() -> None:
    quota = learning_quota()

    decisions = [
        quota.admit(newcomer(n, n * DAY), n, T0, 0)
        for n in range(9)  # the eighth comes exactly when the period is over
    ]

    verdicts = [decision.verdict for decision in decisions]
    assert [Verdict.LEARNING] * 7 + [Verdict.ALERT] * 2 == verdicts
    (output,) = decisions[3].outputs
    assert ("overflow", True, False) == (output.destination, output.learning, output.summary)
    assert {
        "n": 3,
        "detection": {"kind": "new_term", "learning": {"until": "1970-01-08T00:00:00.000Z"}},
    } == json.loads(output.value)


def test_a_clock_that_is_years_behind_begins_no_learning_that_is_over_at_once() -> None:
    """#wrong-clocks: learning begins, and ends, by the event clock of the partition."""
    quota = learning_quota()
    now = 900 * DAY

    verdicts = [
        quota.admit(newcomer(n, time_ms, clock_ms=clock_ms), n, T0, 0).verdict
        for n, (time_ms, clock_ms) in enumerate(
            [(DAY, now), (now, now), (now + 6 * DAY, now + 6 * DAY), (DAY, now + 7 * DAY)]
        )
    ]

    assert [Verdict.LEARNING] * 3 + [Verdict.ALERT] == verdicts


def test_what_was_learned_counts_in_no_window() -> None:
    rule = msgspec.structs.replace(RULE, max_signals=1)
    quota = learning_quota()
    for n in range(5):
        quota.admit(newcomer(n, n, rule=rule), n, T0, 0)

    told = quota.admit(newcomer(9, 8 * DAY, rule=rule), 9, T0, 0)

    assert Verdict.ALERT is told.verdict
    assert [] == quota.ended(T0 + DAY)


def test_a_history_goes_on_learning_where_another_worker_takes_over() -> None:
    table = MemoryTable()
    learning_quota(table).admit(newcomer(0, 0), 0, T0, 0)

    after = learning_quota(table)

    assert Verdict.LEARNING is after.admit(newcomer(1, 7 * DAY - 1), 1, T0, 1).verdict
    assert Verdict.ALERT is after.admit(newcomer(2, 7 * DAY), 2, T0, 1).verdict


def test_each_history_learns_for_itself_and_a_rule_may_have_its_own_period() -> None:
    quota = learning_quota(rule=DAY)
    quota.admit(newcomer(0, 0), 0, T0, 0)

    assert Verdict.ALERT is quota.admit(newcomer(1, DAY), 1, T0, 0).verdict
    changed = quota.admit(newcomer(2, DAY, history="cd" * 8), 2, T0, 0)
    assert Verdict.LEARNING is changed.verdict


def test_a_new_term_that_comes_late_is_told_once_learning_is_over() -> None:
    """Else what is dated before the end would be silenced for as long as events come late."""
    table = MemoryTable()
    quota = learning_quota(table)

    verdicts = [
        quota.admit(newcomer(n, day * DAY), n, T0, 0).verdict for n, day in enumerate((0, 7, 3))
    ]

    assert verdicts == [Verdict.LEARNING, Verdict.ALERT, Verdict.ALERT]
    after = learning_quota(table)
    assert Verdict.ALERT is after.admit(newcomer(3, 2 * DAY), 3, T0, 3).verdict
    # The one that ended it is looked at again, and one before it whose id row was lost.
    table.delete(b"ialert-0")
    assert Verdict.LEARNING is after.admit(newcomer(0, 0), 0, T0, 0).verdict
    assert after.admit(newcomer(1, 7 * DAY), 1, T0, 0).repeated


def test_a_history_that_tells_is_never_silenced_by_a_period_that_is_set_later() -> None:
    table = MemoryTable()
    Quota(table).admit(newcomer(0, DAY), 0, T0, 0)

    assert Verdict.ALERT is learning_quota(table).admit(newcomer(1, DAY), 1, T0, 1).verdict


def test_a_history_that_tells_stays_told_when_a_crash_and_a_new_setting_come_together() -> None:
    table = MemoryTable()
    quota = learning_quota(table, rule=DAY)
    quota.admit(newcomer(0, 0), 0, T0, 0)
    start = table.get(b"l" + HISTORY.encode())
    quota.admit(newcomer(1, DAY), 1, T0, 0)
    table.put(b"l" + HISTORY.encode(), start or b"")

    after = learning_quota(table)  # seven days now

    assert after.admit(newcomer(1, DAY), 1, T0, 0).repeated
    assert Verdict.ALERT is after.admit(newcomer(2, 2 * DAY), 2, T0, 0).verdict


def test_a_query_rule_and_a_deployment_without_a_period_learn_nothing() -> None:
    assert Verdict.ALERT is learning_quota().admit(newcomer(0, 0, history=""), 0, T0, 0).verdict
    assert Verdict.ALERT is Quota(MemoryTable()).admit(newcomer(0, 0), 0, T0, 0).verdict


def test_a_replay_while_learning_gives_the_same_bytes_whatever_the_setting_is_by_then() -> None:
    table = MemoryTable()
    first = learning_quota(table).admit(newcomer(0, 0), 0, T0, 0)

    again = Quota(table).admit(newcomer(0, 0), 0, T0 + DAY, 0)
    twice = Quota(table).admit(newcomer(0, 0), 1, T0 + DAY, 0)

    assert (True, first.outputs) == (again.repeated, again.outputs)
    assert Verdict.DUPLICATE is twice.verdict


def test_the_mark_leaves_the_rest_of_the_document_as_it_is() -> None:
    text = b'{"detection":{"n":123456789012345678901234567890},"x":[1.50,"\\u00e9"]}'

    marked = mark_learning(text, 0)

    assert b'"n":123456789012345678901234567890' in marked
    assert b'"x":[1.50,"\\u00e9"]' in marked


@pytest.mark.parametrize("detection", ["5", "null", "[]", '"x"'])
def test_an_alert_of_another_shape_is_marked_all_the_same(detection: str) -> None:
    marked = mark_learning(f'{{"a":1,"detection":{detection}}}'.encode(), 0)

    learning = {"until": "1970-01-01T00:00:00.000Z"}
    assert {"a": 1, "detection": {"learning": learning}} == json.loads(marked)


def test_without_a_learning_period_what_comes_late_is_told_too() -> None:
    quota = Quota(MemoryTable())

    verdicts = [
        quota.admit(newcomer(n, time, history="ab" * 8), n, T0, 0).verdict
        for n, time in enumerate((DAY, 0, 2 * DAY))
    ]

    assert verdicts == [Verdict.ALERT] * 3


def ids_in(table: MemoryTable) -> set[bytes]:
    return {key[1:] for key, _ in table.items() if key.startswith(b"i")}


def test_a_flood_of_new_terms_leaves_the_latest_ids_and_no_more() -> None:
    table = MemoryTable()
    quota = Quota(table, max_ids=100)

    for number in range(1_000):
        quota.admit(candidate(number), number, T0 + number, number)
    known = quota.admit(candidate(950), 1_000, T0 + 1_000, 1_000)
    forgotten = quota.admit(candidate(1), 1_001, T0 + 1_001, 1_001)

    assert len(ids_in(table)) <= 102
    assert {f"alert-{number}".encode() for number in range(910, 1_000)} <= ids_in(table)
    assert known.verdict is Verdict.DUPLICATE
    assert forgotten.verdict is Verdict.OVERFLOW
    again = Quota(table, max_ids=10)
    again.recover(table.items())
    for number in range(1_002, 1_102):
        again.admit(candidate(number), number, T0 + number, number)
    assert len(ids_in(table)) <= 12


def test_an_id_that_a_replay_may_ask_for_is_kept_however_many_there_are() -> None:
    table = MemoryTable()
    quota = Quota(table, max_ids=10)

    for number in range(300):
        quota.admit(candidate(number), number, T0, 50)

    assert {f"alert-{number}".encode() for number in range(50, 300)} <= ids_in(table)


@pytest.mark.parametrize(
    "entry", [newcomer(1, DAY), CloseWindow(RULE, T0)], ids=["candidate", "tick"]
)
def test_the_rows_that_are_read_ahead_are_those_that_are_read(
    entry: NewTerm | CloseWindow,
) -> None:
    read: set[bytes] = set()

    class Recorded(MemoryTable):
        def get(self, key: bytes) -> bytes | None:
            read.add(key)
            return super().get(key)

    quota = Quota(Recorded())
    quota.admit(newcomer(0, DAY), 0, T0, 0)
    read.clear()

    if isinstance(entry, CloseWindow):
        quota.close(entry, 1, T0, 0)
    else:
        quota.admit(entry, 1, T0, 0)

    assert quota.rows_of([entry]) == read
