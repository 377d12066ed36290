"""The judge of a run sees each thing that can be wrong, and only that."""

from __future__ import annotations

from dataclasses import asdict

from tests.chaos.verdict import Raised, Sample, Told, judge, recovery_seconds

A, B, C = (("rule", "h1", f"{name}.exe") for name in "abc")
ORACLE = frozenset({A, B})
ALERTS, OVERFLOW, NEW = ("alerts", 0), ("overflow", 0), ("new", 0)


def told(term=A, alert_id="id-a", *, value=b"{}", place=ALERTS, offset=0, at=10.0):
    return Told(alert_id, term, value, place, offset, at)


GOOD = [told(A, "id-a"), told(B, "id-b", place=OVERFLOW)]


def wrong(*records, raised=(), samples=()):
    found = asdict(judge(ORACLE, records, raised, samples))
    return {name: named for name, named in found.items() if named}


def test_each_term_once_in_either_topic_is_right():
    assert wrong(*GOOD) == {}


def test_a_summary_is_no_term():
    assert wrong(*GOOD, told(None, "summary")) == {}


def test_a_term_that_nobody_told_is_lost():
    assert wrong(told(A, "id-a")) == {"lost": ["rule h1 b.exe"]}


def test_a_term_outside_the_oracle_is_invented():
    assert wrong(*GOOD, told(C, "id-c")) == {"invented": ["rule h1 c.exe as id-c"]}


def test_a_second_id_of_a_term_is_invented():
    assert wrong(*GOOD, told(A, "id-2")) == {"invented": ["rule h1 a.exe as id-2"]}


def test_the_same_bytes_again_are_a_repeat_each_time():
    assert wrong(*GOOD, told(), told()) == {"duplicated": ["id-a", "id-a"]}


def test_other_bytes_under_the_same_id_are_no_repeat():
    assert wrong(*GOOD, told(value=b"other")) == {"differing": ["id-a"]}


def test_an_id_in_both_topics_is_told():
    assert wrong(*GOOD, told(place=OVERFLOW)) == {"duplicated": ["id-a"], "split": ["id-a"]}


def test_a_commit_past_an_alert_that_is_not_there_is_seen():
    raised = [Raised("id-a", NEW, 5)]
    records = [told(offset=7), *GOOD[1:]]
    too_early = Sample({NEW: 6}, {ALERTS: 7})

    assert wrong(*records, raised=raised, samples=[Sample({NEW: 5}, {ALERTS: 7})]) == {}
    assert wrong(*records, raised=raised, samples=[Sample({NEW: 6}, {ALERTS: 8})]) == {}
    assert wrong(*records, raised=raised, samples=[too_early]) == {
        "passed": ["id-a at ('new', 0) 5"]
    }


def test_the_first_of_two_alerts_is_enough_for_the_commit():
    raised = [Raised("id-a", NEW, 5)]
    records = [told(offset=3), told(offset=9), GOOD[1]]

    assert "passed" not in wrong(*records, raised=raised, samples=[Sample({NEW: 6}, {ALERTS: 4})])


def test_a_commit_that_goes_back_is_seen():
    samples = [Sample({NEW: 6}, {}), Sample({NEW: 5}, {}), Sample({NEW: 7}, {})]

    assert wrong(*GOOD, samples=samples) == {"turned_back": ["('new', 0) from 6 to 5"]}


def test_recovery_is_the_latest_first_telling_of_what_was_sent_before():
    sent = {A: 1.0, B: 2.0, C: 9.0}
    records = [told(A, at=3.0), told(A, at=20.0), told(B, at=6.5), told(C, at=30.0)]

    assert recovery_seconds([2.0, 0.5, 7.0, 9.0], sent, records) == [4.5, 0.0, 0.0, 21.0]
