"""Time, paragraph by paragraph of docs/concepts.md: a test names its paragraph as ``#anchor:``.

Other modules name some of the paragraphs too, where a test of theirs says it already.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.alert import build_alert
from pipeline.engine.first_seen import FirstSeen
from pipeline.engine.match import MatchStage, Outcome
from pipeline.engine.row_counts import RowCounts
from pipeline.engine.sweep import Sweep, SweepSettings
from pipeline.engine.tables import MemoryTable
from pipeline.kql import FieldTable
from pipeline.record import NO_TIMESTAMP, Position, Record
from pipeline.rules.model import NewTerms, Rule
from pipeline.rules.ruleset import RuleSet
from pipeline.rules.timestamp import EARLIEST_MS, format_timestamp, parse_timestamp
from tests.rows import rows
from tests.rules import new_terms_rule

TESTS = Path(__file__).parents[2]
CONCEPTS = TESTS.parent / "docs" / "concepts.md"

MINUTE = 60_000
DAY = 86_400_000
HISTORY = 10 * DAY
GRACE = DAY
NOON = "2024-05-01T12:00:00.000Z"
NOON_MS = 1_714_564_800_000
GUARD = 5 * MINUTE


def rule(*, override: str | None = "event.ingested", fallback: bool = True) -> Rule:
    return new_terms_rule(
        new_terms=NewTerms(("process.executable",), HISTORY, "now-10d"),
        timestamp_override=override,
        timestamp_override_fallback_disabled=not fallback,
    )


def event(timestamp: Any = NOON, term: str = "a.exe", **changes: Any) -> dict[str, Any]:
    return {
        "@timestamp": timestamp,
        "dll": {"name": "engine.dll"},
        "process": {"executable": term},
    } | changes


class Worker:
    """The stages that decide what is new, over a table of one partition, with its sweep."""

    def __init__(self, judged_by: Rule | None = None, *, sweeps: bool = True) -> None:
        ruleset, _ = RuleSet.compile([judged_by or rule()], FieldTable.builtin())
        self._match = MatchStage(ruleset, max_future_ms=GUARD)
        self._table = MemoryTable()
        self._sweeps = sweeps
        self._offset = 0
        self.restart()

    def restart(self) -> None:
        """Begin with what the table holds, as after a start or a rebalance."""
        row_counts = RowCounts()
        self._first_seen = FirstSeen(self._table, row_counts)
        forgotten, clock = self._first_seen.forgotten, self._first_seen.clock
        self._sweep = Sweep(self._table, row_counts, forgotten, clock, SweepSettings(GRACE, 0))

    def match(
        self,
        event: dict[str, Any],
        *,
        arrival_ms: int = NOON_MS,
        timestamp_ms: int | None = None,
        read_ms: int | None = None,
    ) -> Outcome:
        """Match a record that arrived at this moment, and says and was read so unless told."""
        return self._match.process(
            Record(
                position=Position("library", 0, self._offset),
                key=None,
                value=json.dumps(event).encode(),
                headers=(),
                timestamp_ms=arrival_ms if timestamp_ms is None else timestamp_ms,
                arrival_ms=arrival_ms,
                read_ms=arrival_ms if read_ms is None else read_ms,
            )
        )

    def see(self, event: dict[str, Any], **arrival: Any) -> bool:
        """Judge a record of one match; return whether its term is new."""
        (observation,) = self.match(event, **arrival).observations
        self._offset += 1
        return self._first_seen.observe(observation, self._offset, self._offset).new

    def see_at(self, time_ms: int, term: str = "a.exe", *, now_ms: int | None = None) -> bool:
        """Judge an event of this time, which arrives then unless told."""
        arrival_ms = time_ms if now_ms is None else now_ms
        return self.see(event(format_timestamp(time_ms), term), arrival_ms=arrival_ms)

    def idle(self, now_ms: int) -> None:
        """Let the sweep go over all rows until nothing that was seen before protects them."""
        end = self._sweep.passes + 3
        while self._sweeps and self._sweep.passes < end:
            self._sweep.step(now_ms, self._offset + 1, rows=100, removals=100)

    def terms(self) -> set[str]:
        return {str(row.terms[0]) for _, row in rows(self._table)}


def time_of(outcome: Outcome) -> tuple[int, str]:
    (observation,) = outcome.observations
    return observation.time_ms, observation.time_source


def detection_of(outcome: Outcome, worker: Worker | None = None) -> dict[str, Any]:
    """Return ``detection`` of the alert that a match becomes."""
    (observation,) = outcome.observations
    sighting = FirstSeen(MemoryTable()).observe(observation, 0, 0)
    alert = build_alert(observation, sighting, None, created_ms=0, ruleset_digest="")
    detection: dict[str, Any] = json.loads(bytes(alert.alert))["detection"]
    return detection


# -- which time an event has


def test_the_override_field_counts_where_the_event_has_it() -> None:
    """#which-time-an-event-has: whatever @timestamp says."""
    outcome = Worker().match(event(event={"ingested": "2024-05-01T11:59:00Z"}))

    assert (NOON_MS - MINUTE, "event.ingested") == time_of(outcome)


@pytest.mark.parametrize("absent", [{}, {"ingested": None}, {"ingested": []}])
def test_the_timestamp_counts_where_the_override_field_is_absent(absent: Any) -> None:
    """#which-time-an-event-has: event.ingested is absent on Kafka."""
    assert (NOON_MS, "@timestamp") == time_of(Worker().match(event(event=absent)))


def test_the_timestamp_counts_where_the_rule_names_no_field() -> None:
    """#which-time-an-event-has: the same without an override."""
    worker = Worker(rule(override=None))

    assert (NOON_MS, "@timestamp") == time_of(worker.match(event(event={"ingested": 1})))


def test_the_timestamp_counts_where_the_override_field_holds_no_time() -> None:
    """#which-time-an-event-has: one unusable field does not spoil the other."""
    outcome = Worker().match(event(event={"ingested": "now"}))

    assert (NOON_MS, "@timestamp") == time_of(outcome)
    assert () == outcome.untimed


def test_a_rule_that_forbids_the_fallback_goes_by_the_record() -> None:
    """#which-time-an-event-has: the nearest there is to the time of ingestion."""
    worker = Worker(rule(fallback=False))

    outcome = worker.match(event("2020-01-01T00:00:00Z"), arrival_ms=NOON_MS)

    assert (NOON_MS, "record") == time_of(outcome)


def test_a_field_with_several_values_counts_with_the_earliest_that_is_a_time() -> None:
    """#which-time-an-event-has: as a sort on doc values does."""
    values = ["2024-05-01T11:58:00Z", "soon", 0, NOON]

    assert (NOON_MS - 2 * MINUTE, "@timestamp") == time_of(Worker().match(event(values)))


def test_an_alert_tells_the_time_and_where_it_is_from() -> None:
    """#which-time-an-event-has: in detection.event_time and detection.event_time_source."""
    detection = detection_of(Worker().match(event()))

    assert (NOON, "@timestamp", False) == (
        detection["event_time"],
        detection["event_time_source"],
        detection["event_time_capped"],
    )


# -- an event without a usable time

UNUSABLE: dict[str, Any] = {
    "text": "yesterday",
    "boolean": True,
    "no such month": "2024-13-01T00:00:00Z",
    "beyond all time": 1e300,
    "zero": 0,
    "start of the epoch": "1970-01-01T00:00:00Z",
    "zero of Go": "0001-01-01T00:00:00Z",
    "zero of a FILETIME": "1601-01-01T00:00:00Z",
    "seconds": NOON_MS // 1000,
    "microseconds": NOON_MS * 1000,
    "nanoseconds as text": str(NOON_MS * 1_000_000),
    "just too early": EARLIEST_MS - 1,
}


@pytest.mark.parametrize("value", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_the_record_tells_the_time_of_an_event_that_tells_none(value: Any) -> None:
    """#an-event-without-a-usable-time: it is judged, and counted."""
    worker = Worker()

    outcome = worker.match(event(value), timestamp_ms=NOON_MS - MINUTE)

    assert (NOON_MS - MINUTE, "record") == time_of(outcome)
    assert ("invalid_timestamp",) == outcome.untimed
    assert None is outcome.error
    assert [True, False] == [worker.see(event(value)) for _ in range(2)]


@pytest.mark.parametrize("value", [None, [], {}, {"seconds": 1}])
def test_an_event_whose_time_is_missing_is_judged_as_well(value: Any) -> None:
    """#an-event-without-a-usable-time: counted with another reason."""
    outcome = Worker().match(event(value))

    assert (NOON_MS, "record") == time_of(outcome)
    assert ("missing_timestamp",) == outcome.untimed


def test_a_time_of_1980_is_a_time() -> None:
    """#an-event-without-a-usable-time: the clock of a machine may begin there."""
    assert (EARLIEST_MS, "@timestamp") == time_of(Worker().match(event("1980-01-01T00:00:00Z")))


@pytest.mark.parametrize("timestamp_ms", [NO_TIMESTAMP, 0, 1, EARLIEST_MS - 1, -(2**63)])
def test_a_record_that_tells_no_time_either_counts_with_the_moment_of_reading(
    timestamp_ms: int,
) -> None:
    """#an-event-without-a-usable-time: Kafka's -1 is no time, and neither is 0."""
    outcome = Worker().match(event(None), timestamp_ms=timestamp_ms, read_ms=NOON_MS)

    assert (NOON_MS, "record") == time_of(outcome)


def test_a_record_is_believed_no_more_than_an_event() -> None:
    """#an-event-without-a-usable-time: the guard holds for a producer's claim too."""
    outcome = Worker().match(event(None), timestamp_ms=NOON_MS + DAY)

    assert (NOON_MS + GUARD, "record") == time_of(outcome)
    assert 1 == outcome.future_capped


@pytest.mark.parametrize(
    ("value", "reason"), [(None, "missing_timestamp"), (1, "invalid_timestamp")]
)
def test_in_a_file_it_is_a_dead_letter(value: Any, reason: str) -> None:
    """#an-event-without-a-usable-time: a line has no record that could tell."""
    outcome = Worker().match(event(value), timestamp_ms=NO_TIMESTAMP, read_ms=NO_TIMESTAMP)

    assert outcome.error is not None
    assert reason == outcome.error.reason
    assert ((), ()) == (outcome.observations, outcome.untimed)


def test_its_alert_says_that_the_record_told_the_time() -> None:
    """#an-event-without-a-usable-time: so that nobody takes it for the endpoint's."""
    detection = detection_of(Worker().match(event("soon")))

    assert ("record", NOON) == (detection["event_time_source"], detection["event_time"])


# -- how a timestamp is read


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-05-01T12:00:00Z", 0),
        ("2024-05-01T12:00:00.1Z", 100),
        ("2024-05-01T12:00:00.1234567Z", 123),
        ("2024-05-01T12:00:00.999999999Z", 999),
        ("2024-05-01T12:00:00,5Z", 500),
        ("2024-05-01T14:00:00.000+02:00", 0),
        ("2024-05-01T14:00:00+02", 0),
        ("2024-05-01T02:30:00-0930", 0),
        ("2024-05-02T06:00:00+18:00", 0),
        ("2024-05-01T12:00:00", 0),
        ("2024-05-01t12:00:00z", 0),
        ("2024-05-01 12:00:00", 0),
        ("2024-05-01T12:00Z", 0),
        ("2024-05-01T12", 0),
        ("2024-05-01", -43_200_000),
        ("2024-05", -43_200_000),
        ("2024", -43_200_000 - (31 + 29 + 31 + 30) * 86_400_000),
        (NOON_MS, 0),
        (NOON_MS + 0.9, 0),
        (str(NOON_MS), 0),
        ("2024-05-01T11:59:60Z", 0),
        ("2024-05-01T11:59:60.999Z", 0),
        ("2024-05-01T13:59:60+02:00", 0),
    ],
)
def test_a_timestamp_stands_for_a_millisecond(value: Any, expected: int) -> None:
    """#how-a-timestamp-is-read: milliseconds after noon."""
    assert NOON_MS + expected == parse_timestamp(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "noon",
        "20-24",
        "2024-05-01T12:00:00.",
        "2024-02-30",
        "2024-05-01T24:00:00Z",
        "2024-05-01T12:60:00Z",
        "2024-05-01T12:00:61Z",
        "2024-05-01T12:00:00.1234567890Z",
        "2024-05-01T12:00:0x.123Z",
        "2024-05-01T12:00:00x123Z",
        "2024-05-01T12:00:00.1_3Z",
        "2024-05-01T12:00:00.\uff11\uff12\uff13Z",
        "2024-05-01T12:00:61.123Z",
        "2024-05-01T12:60:00.123Z",
        "2024-02-30T12:00:00.123Z",
        "2024-02-30T11:59:60Z",
        "2024-05-01T12:00:00+19:00",
        "2024-05-01T12:00:00 CEST",
        "Wed, 01 May 2024 12:00:00 GMT",
        "05/01/2024 12:00:00",
        "\uff12\uff10\uff12\uff14-05-01",
        "-2024-05-01",
        "10000-01-01",
        NOON_MS * 1000,
        str(NOON_MS * 1000),
        10**40,
        float("inf"),
        True,
        None,
        [],
        {},
    ],
)
def test_what_is_no_date_of_elasticsearch_is_no_time(value: Any) -> None:
    """#how-a-timestamp-is-read: nothing is guessed."""
    assert None is parse_timestamp(value)


# -- the future guard


def test_a_time_in_the_future_is_capped_and_counted() -> None:
    """#the-future-guard: 2099 counts as five minutes after the arrival, and the alert says so."""
    outcome = Worker().match(event("2099-01-01T00:00:00Z"))

    assert (NOON_MS + GUARD, "@timestamp") == time_of(outcome)
    assert 1 == outcome.future_capped
    assert detection_of(outcome)["event_time_capped"]


@pytest.mark.parametrize(("after_ms", "capped"), [(GUARD, 0), (GUARD + 1, 1)])
def test_the_guard_begins_after_its_limit(after_ms: int, capped: int) -> None:
    """#the-future-guard: more than the limit is too much, the limit is not."""
    outcome = Worker().match(event(NOON_MS + after_ms))

    assert (NOON_MS + GUARD, "@timestamp") == time_of(outcome)
    assert capped == outcome.future_capped


def test_a_tuple_from_the_future_is_known_no_longer_than_others() -> None:
    """#the-future-guard: without it, it would be known until 2099."""
    worker = Worker()

    assert worker.see(event("2099-01-01T00:00:00Z"))
    assert not worker.see_at(NOON_MS + HISTORY + GUARD)
    assert worker.see_at(NOON_MS + 2 * HISTORY + GUARD + 1)


def test_a_host_whose_clock_is_ahead_is_judged_by_arrival() -> None:
    """#the-future-guard: its events are at their arrival plus the limit, each of them."""
    worker = Worker()
    days = [0, 9, 20, 29]

    found = [
        worker.see(event("2031-05-01T12:00:00Z"), arrival_ms=NOON_MS + day * DAY) for day in days
    ]

    assert [True, False, True, False] == found


# -- late events


def test_a_late_event_of_a_known_tuple_is_not_new_and_does_not_move_last_seen_back() -> None:
    """#late-events: by however much it is late."""
    worker = Worker()
    worker.see_at(NOON_MS)

    assert not worker.see_at(NOON_MS - 900 * DAY, now_ms=NOON_MS)
    assert not worker.see_at(NOON_MS + HISTORY)


def test_a_late_event_of_an_unknown_tuple_is_new_however_old_it_is() -> None:
    """#late-events: late is not a reason to miss it; and it may be told for its time and for now."""
    worker = Worker()
    worker.see_at(NOON_MS, "other")

    assert worker.see_at(NOON_MS - 900 * DAY, now_ms=NOON_MS)
    assert worker.see_at(NOON_MS)
    assert not worker.see_at(NOON_MS + 1)


def test_what_a_laptop_sends_when_it_is_back_is_told_once() -> None:
    """#late-events: weeks of events in a few minutes, the oldest first."""
    worker = Worker()
    worker.see_at(NOON_MS, "other")
    worker.idle(NOON_MS)
    sent = [
        worker.see_at(NOON_MS - (30 - day) * DAY, f"tool-{day % 3}", now_ms=NOON_MS)
        for day in range(30)
    ]

    assert 3 == sum(sent)
    worker.idle(NOON_MS)
    assert [False] * 3 == [worker.see_at(NOON_MS, f"tool-{tool}") for tool in range(3)]


def test_an_event_that_is_later_than_the_grace_may_be_told_once_too_often() -> None:
    """#late-events: the tuple left meanwhile; with its row it would have been known."""
    after = NOON_MS + HISTORY + GRACE + 1
    verdicts = []
    for sweeps in (True, False):
        worker = Worker(sweeps=sweeps)
        worker.see_at(NOON_MS)
        worker.see_at(after, "other")
        worker.idle(after)
        verdicts.append(worker.see_at(NOON_MS + HISTORY, now_ms=after))

    assert [True, False] == verdicts


# -- replays of old data


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100)), max_size=40))
def test_old_events_are_judged_by_their_time_whenever_they_are_read(
    sightings: list[tuple[int, int]],
) -> None:
    """#replays-of-old-data: read as they come, or years later: the same terms are new."""
    live, later = Worker(), Worker()
    for term, day in sorted(sightings, key=lambda each: each[1]):
        time_ms = NOON_MS + day * DAY
        now_ms = NOON_MS + 1_000 * DAY
        assert live.see_at(time_ms, str(term)) == later.see_at(time_ms, str(term), now_ms=now_ms)
        live.idle(time_ms)
        later.idle(now_ms)


def test_old_events_that_come_again_change_nothing() -> None:
    """#replays-of-old-data: what is known stays known, and nothing is forgotten because of them."""
    worker = Worker()
    days = range(0, 60, 4)
    first = [worker.see_at(NOON_MS + day * DAY, f"{day % 3}") for day in days]
    now_ms = NOON_MS + 60 * DAY
    worker.idle(now_ms)
    before = worker.terms()

    again = [worker.see_at(NOON_MS + day * DAY, f"{day % 3}", now_ms=now_ms) for day in days]
    worker.idle(now_ms)

    assert any(first)
    assert not any(again)
    assert before == worker.terms()


# -- when a term leaves: see test_sweep.py too


def test_one_event_from_the_future_forgets_nothing() -> None:
    """#when-a-term-leaves: the event clock is moved to its arrival, and no further."""
    worker = Worker()
    worker.see_at(NOON_MS)
    worker.see(event("2099-01-01T00:00:00Z", "b.exe"))
    worker.idle(NOON_MS)

    assert {"a.exe", "b.exe"} == worker.terms()


# -- wrong clocks


def test_a_clock_that_is_years_behind_has_its_terms_told_once() -> None:
    """#wrong-clocks: by the dates alone each would be over when it comes, leave, and be new again."""
    worker = Worker()
    told = 0
    for day in range(30):
        now_ms = NOON_MS + day * DAY
        worker.see_at(now_ms, "other")
        told += worker.see_at(now_ms - 2_000 * DAY, "behind", now_ms=now_ms)
        worker.idle(now_ms)

    assert 1 == told


def test_a_clock_that_is_years_behind_is_first_after_a_restart_and_keeps_its_terms() -> None:
    """#wrong-clocks: the event clock is not kept, but the rows tell it where it stood."""
    worker = Worker()
    behind = NOON_MS - 2_000 * DAY
    worker.see_at(NOON_MS, "other")
    worker.see_at(behind, "behind", now_ms=NOON_MS)
    worker.restart()

    assert not worker.see_at(behind, "behind", now_ms=NOON_MS)
    worker.see_at(NOON_MS, "other")
    worker.idle(NOON_MS)
    assert {"behind", "other"} == worker.terms()


def test_a_clock_that_stands_still_hides_no_first_sighting_and_a_return_for_the_grace() -> None:
    """#wrong-clocks: a tuple that was away for its history and the grace has left, and is told."""
    worker = Worker()
    stopped = NOON_MS - 2_000 * DAY

    def at(day: int, term: str) -> bool:
        now_ms = NOON_MS + day * DAY
        worker.see_at(now_ms, "other")
        new = worker.see_at(stopped, term, now_ms=now_ms)
        worker.idle(now_ms)
        return new

    assert [True, False, True] == [at(0, "a"), at(5, "a"), at(6, "b")]
    worker.see_at(NOON_MS + 16 * DAY, "other")
    worker.idle(NOON_MS + 16 * DAY)
    assert not at(16, "a")
    worker.see_at(NOON_MS + 28 * DAY, "other")
    worker.idle(NOON_MS + 28 * DAY)
    assert at(28, "a")


@given(
    st.dictionaries(st.integers(0, 5), st.integers(-3_000, 0), min_size=1),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60)), max_size=40),
)
def test_a_clock_that_is_behind_but_goes_changes_no_verdict(
    behind: dict[int, int], sightings: list[tuple[int, int]]
) -> None:
    """#wrong-clocks: each host is judged by its own clock as if it were right, sweeps or not."""
    right, wrong = Worker(sweeps=False), Worker()
    for host, day in sorted(sightings, key=lambda each: each[1]):
        now_ms = NOON_MS + day * DAY
        host_ms = now_ms + behind.get(host, 0) * DAY
        for worker in (right, wrong):
            worker.see_at(now_ms, "other")
        assert right.see_at(now_ms, str(host)) == wrong.see_at(host_ms, str(host), now_ms=now_ms)
        wrong.idle(now_ms)


def test_a_guard_whose_clock_is_behind_hides_no_first_sighting() -> None:
    """#wrong-clocks: all events are capped; known stays known, new is told."""
    worker = Worker()
    worker.see_at(NOON_MS, "known")

    found = [
        worker.see(event(NOON, term), arrival_ms=NOON_MS - 400 * DAY) for term in ("known", "new")
    ]

    assert [False, True] == found


# -- the tests and the paragraphs


def paragraphs() -> set[str]:
    """Return the anchors of the headings under "Time", as GitHub makes them."""
    section = CONCEPTS.read_text(encoding="utf-8").split("\n## Time\n")[1].split("\n## ")[0]
    headings = re.findall(r"^### (.+)$", section, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


def named() -> Iterator[str]:
    """Yield the paragraph that each test names, over all tests."""
    for path in TESTS.rglob("test_*.py"):
        # Packages in the environments of the benchmarks have tests too.
        if any(part.startswith(".") for part in path.relative_to(TESTS).parts):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found = re.match(r"#([\w-]+): ", ast.get_docstring(node) or "")
                if found:
                    yield found.group(1)


def test_every_paragraph_on_time_is_named_by_a_test_and_every_name_is_one() -> None:
    assert paragraphs() == set(named())
    assert len(paragraphs()) > 5


def test_every_link_to_a_paragraph_leads_to_one() -> None:
    page = CONCEPTS.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
    links = set(re.findall(r"\]\(#([\w-]+)\)", page))
    for path in [*CONCEPTS.parent.rglob("*.md"), CONCEPTS.parents[1] / "README.md"]:
        links |= set(re.findall(r"concepts\.md#([\w-]+)\)", path.read_text(encoding="utf-8")))

    assert links
    assert links <= anchors
