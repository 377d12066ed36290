"""What the match stage sends, leaves out and counts in the stream, in either thread."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence

import pytest
import structlog
from aiokafka.structs import TopicPartition

from pipeline.assembly.match_stage import match_stage, verdicts_of
from pipeline.config import Settings
from pipeline.config.kafka import KafkaSettings
from pipeline.engine import verdicts as verdicts_module
from pipeline.engine.match import Disposition
from pipeline.engine.wire import decode_observation_or_change
from pipeline.errors import RecordError
from pipeline.kql import FieldTable
from pipeline.record import Position, Record
from pipeline.rules.model import NewTerms, Rule, RuleType
from pipeline.rules.ruleset import RuleSet
from pipeline.rules.timestamp import usable_time
from pipeline.stream.judging import Judge, Judged, dead_letter
from pipeline.stream.match_filter import MatchFilter
from pipeline.stream.records import LOG_APPEND_TIME
from pipeline.stream.transport.bundles import FetchedRecord
from pipeline.telemetry.metrics import Metrics
from tests.rules import new_terms_rule
from tests.scans import KINDS as SCANS

TP = TopicPartition("events", 0)
NOW_MS = 1_772_438_400_000
SEEN_BEFORE = new_terms_rule(
    rule_id="r",
    query="process.name:(a.exe or b.exe)",
    new_terms=NewTerms(("process.name",), 86_400_000, "now-1d"),
)
QUERY = dataclasses.replace(SEEN_BEFORE, rule_id="q", type=RuleType.QUERY, new_terms=None)


def rule_set(*rules: Rule) -> RuleSet:
    return RuleSet.compile(rules or [SEEN_BEFORE], FieldTable.builtin())[0]


def event(name: str = "a.exe", **more: object) -> bytes:
    told = {"@timestamp": "2026-03-02T08:00:00.000Z", "process": {"name": name}, **more}
    return json.dumps(told, separators=(",", ":")).encode()


def fetched(value: bytes, offset: int) -> FetchedRecord:
    return FetchedRecord("events", 0, offset, NOW_MS, LOG_APPEND_TIME, None, value, ())


def judged(judge: Judge, value: bytes, offset: int) -> Judged:
    """Return what a record gives rise to that is judged by itself."""
    (end,) = judge.judge_all(TP, [fetched(value, offset)])
    return end


JudgeOf = Callable[..., Judge]


@pytest.fixture(params=SCANS)
def judge_of(request: pytest.FixtureRequest) -> JudgeOf:
    """Make judges of rules: without remembered verdicts, and with them."""
    native = request.param == "native"

    def make(
        *rules: Rule,
        metrics: Metrics | None = None,
        entries: int = 100,
    ) -> Judge:
        settings = Settings.model_validate(
            {
                "stream": {"native": "on" if native else "off"},
                "state": {"forwarded_entries": entries},
            }
        )
        rules_to_judge_by = rule_set(*rules)
        verdicts = verdicts_of(settings, rules_to_judge_by)
        assert (verdicts is not None) is native
        stage = match_stage(settings, rules_to_judge_by)
        return Judge(settings, stage, metrics or Metrics(), verdicts)

    return make


def count(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"firstseen_{name}", labels) or 0.0


def test_a_dead_letter_is_still_to_be_written_and_takes_the_memory_of_its_record() -> None:
    place = Position("events", 0, 7)
    error = RecordError("invalid_json", "no JSON")

    for key, value, size in ((None, b"{", 1), (b"key", None, 3), (b"key", b"{", 4)):
        dead = dead_letter(Record(place, key, value, (), NOW_MS, NOW_MS), error)

        assert (False, size) == (dead.is_done, dead.size)


def test_what_was_forwarded_a_moment_ago_leaves_nothing_to_do(judge_of: JudgeOf) -> None:
    metrics = Metrics()
    judge = judge_of(metrics=metrics)

    first, again, other = (
        judged(judge, event(name), offset)
        for offset, name in enumerate(("a.exe", "a.exe", "b.exe"))
    )
    judge.counts.export()

    assert (1, 0, 1) == tuple(len(each.observations) for each in (first, again, other))
    assert (False, True, False) == tuple(each.is_done for each in (first, again, other))
    assert Disposition.MATCHED == again.disposition
    assert 3 == count(metrics, "rule_matches_total", rule_id="r")
    assert 2 == count(metrics, "observations_total", result="forwarded")
    assert 1 == count(metrics, "observations_total", result="covered")


def test_what_goes_on_is_what_the_engine_saw_under_its_key(judge_of: JudgeOf) -> None:
    end = judged(judge_of(), event(), 7)

    (outgoing,) = end.observations
    observation = decode_observation_or_change(outgoing.value or b"")
    assert observation.key() == outgoing.key
    assert ("a.exe",) == observation.terms
    assert 7 == observation.source.offset
    assert end.dead is None
    assert len(outgoing.key) + len(outgoing.value or b"") == end.size


def test_a_record_that_is_read_again_is_forwarded_again(judge_of: JudgeOf) -> None:
    """Its bundle may have been dropped with its partition, and nobody else tells of it."""
    judge = judge_of()

    def sent(offsets: Sequence[int]) -> list[int]:
        return [len(judged(judge, event(), offset).observations) for offset in offsets]

    assert [1, 0, 0] == sent((10, 11, 12))
    assert [1, 0, 0] == sent((10, 11, 12))
    assert [1, 0] == sent((10, 11))


def test_what_happened_later_than_the_granularity_is_forwarded_again(judge_of: JudgeOf) -> None:
    judge = judge_of()
    times = ["08:00:00.000", "08:00:59.000", "08:01:00.001", "08:01:30.000", "08:04:00.000"]
    events = [event(**{"@timestamp": f"2026-03-02T{time}Z"}) for time in times]

    sent = [len(judged(judge, each, n).observations) for n, each in enumerate(events)]

    assert [1, 0, 1, 0, 1] == sent


@pytest.mark.parametrize("time", ["2026-03-02T08:05:00.001Z", "x", 7, None, "1970-01-01T00:00:00Z"])
def test_of_an_event_without_a_usable_time_it_is_told_whatever_came_before(
    judge_of: JudgeOf, time: object
) -> None:
    metrics = Metrics()
    judge = judge_of(metrics=metrics)
    for offset in range(3):
        judged(judge, event(), offset)
    judged(judge, event(**{"@timestamp": time}), 3)
    judge.counts.export()

    untimed = ["invalid_timestamp", "missing_timestamp"]
    told = [count(metrics, "events_untimed_total", reason=reason) for reason in untimed]
    assert 1 == sum(told) + count(metrics, "events_future_total")


def test_documents_of_one_record_cover_each_other(judge_of: JudgeOf) -> None:
    judge = judge_of()
    lines = b"\n".join([event(), event("b.exe"), event(), event()])

    assert 2 == len(judged(judge, lines, 3).observations)
    assert 2 == len(judged(judge, lines, 3).observations)


def test_what_is_too_large_to_be_sent_is_a_dead_letter_and_covers_nothing(
    judge_of: JudgeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No event that is read makes an observation beyond the real limit.
    monkeypatch.setattr(KafkaSettings, "max_value_bytes", 2_000)
    judge = judge_of()
    judged(judge, event(), 0)  # so that a verdict is known, where one is remembered
    judge.clear()
    large = event(message="x" * 2_000)

    refused = judged(judge, large, 1)
    assert ((), Disposition.DEAD_LETTER) == (refused.observations, refused.disposition)
    assert refused.dead is not None
    assert (large, "output_too_large") == (refused.dead[0].value, refused.dead[1].reason)
    assert len(large) == refused.size
    assert 1 == len(judged(judge, event(), 2).observations)


def test_of_a_record_with_one_bad_document_the_good_ones_go_on(judge_of: JudgeOf) -> None:
    end = judged(judge_of(), b"\n".join([event(), b"{broken}"]), 1)

    assert Disposition.DEAD_LETTER == end.disposition
    assert end.dead is not None
    assert 1 == len(end.observations)


def test_a_match_of_a_query_rule_is_never_covered(judge_of: JudgeOf) -> None:
    judge = judge_of(QUERY)

    sent = [judged(judge, event(), offset).new_terms for offset in range(3)]

    assert [1, 1, 1] == [len(each) for each in sent]
    assert {b"q"} == {outgoing.key for each in sent for outgoing in each}


def test_what_matches_nothing_holds_nothing_of_its_record(judge_of: JudgeOf) -> None:
    end = judged(judge_of(), event("other.exe"), 1)

    assert (Disposition.NO_MATCH, True, 0) == (end.disposition, end.is_done, end.size)


@pytest.mark.parametrize("way", ["judge", "examine"])
@pytest.mark.parametrize("scan", SCANS[1:])
def test_a_verdict_that_is_known_is_used_at_every_depth(way: str, scan: str) -> None:
    match_filter = MatchFilter(Settings(), rule_set(), Metrics())
    stage = match_filter._judge._stage
    judged_by_rules = []
    process = stage.process
    stage.process = lambda one: judged_by_rules.append(one) or process(one)
    records = [fetched(event(number=offset), offset) for offset in range(50)]

    ends = list(getattr(match_filter, way)(TP, records))

    assert 50 == ends[-1].next_offset
    assert len(judged_by_rules) <= 2


def test_where_the_oldest_is_forgotten_the_same_is_covered(judge_of: JudgeOf) -> None:
    """What one event sends may push out of the cache what covers the rest of it."""
    other = dataclasses.replace(SEEN_BEFORE, rule_id="other")
    judge = judge_of(SEEN_BEFORE, other, entries=3)

    sent = [
        len(judged(judge, event(name), offset).observations)
        for offset, name in enumerate(["a.exe", "b.exe", "a.exe", "b.exe", "b.exe"])
    ]

    # With three entries each event pushes out what the next one needs: the first of two, then both.
    assert [2, 2, 2, 2, 0] == sent


@pytest.mark.parametrize("scan", SCANS[1:])
def test_what_failed_on_its_way_covers_nothing(scan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_validate({"stream": {"native": "on"}})
    failing = []

    def usable(text: str) -> int | None:
        if failing:
            raise MemoryError
        return usable_time(text)

    monkeypatch.setattr(verdicts_module, "usable_time", usable)
    verdicts = verdicts_of(settings, rule_set())
    assert verdicts is not None
    judge = Judge(settings, match_stage(settings, rule_set()), Metrics(), verdicts)
    judged(judge, event("b.exe"), 0)
    judged(judge, event("a.exe"), 1)
    judge.clear()
    unusual = event("a.exe", **{"@timestamp": "2026-03-02T08:00:00Z"})
    failing.append(1)
    with pytest.raises(MemoryError):
        list(judge.judge_all(TP, [fetched(event("b.exe"), 2), fetched(unusual, 3)]))
    failing.clear()

    assert 1 == len(judged(judge, event("b.exe"), 4).observations)


BROKEN = b'{"process":{"name":"a.exe"}'
KINDS = {
    "matches": (event(), Disposition.MATCHED),
    "answers and does not match": (event("other.exe", note="a.exe"), Disposition.NO_MATCH),
    "does not answer": (event("other.exe", note='b"a'), Disposition.SKIPPED),
    "is no JSON, and answers": (BROKEN, Disposition.DEAD_LETTER),
    "is no JSON, and does not answer": (b"{", Disposition.SKIPPED),
}


@pytest.mark.parametrize("before", [event(), event("other.exe")], ids=["match", "do not answer"])
def test_what_came_before_does_not_decide_how_a_record_ends(before: bytes) -> None:
    """Whether a record is searched before it is judged follows the traffic; verdicts do not."""
    for value, disposition in KINDS.values():
        metrics = Metrics()
        match_filter = MatchFilter(Settings(), rule_set(), metrics)
        for offset in range(100):
            list(match_filter.examine(TP, [fetched(before, offset)]))
        _export(match_filter)
        counted = _counts(metrics)

        ((_, _, kept),) = match_filter.examine(TP, [fetched(value, 1_000)])
        _export(match_filter)

        ended = [d for d, n in _counts(metrics).items() if n > counted[d]]
        told = [disposition] if kept is None else [kept.disposition]
        assert [disposition] == told
        assert ended == ([] if kept is not None else [disposition])


def test_a_rule_that_does_not_judge_an_event_is_named_in_the_log(judge_of: JudgeOf) -> None:
    many = [str(n) for n in range(150)]
    value = event(process={"name": "a.exe", "args": many}, host={"id": many})
    fields = NewTerms(("process.args", "host.id"), 86_400_000, "now-1d")
    judge = judge_of(dataclasses.replace(SEEN_BEFORE, new_terms=fields))

    with structlog.testing.capture_logs() as logged:
        judged(judge, value, 7)

    (line,) = logged
    assert ("rule_failed", "r", "too_many_tuples") == (
        line["action"],
        line["rule_id"],
        line["code"],
    )
    assert ("events", 0, 7) == (line["topic"], line["partition"], line["offset"])


def test_a_search_comes_first_where_most_records_do_not_answer_and_last_where_most_match() -> None:
    def asked(values: Sequence[bytes]) -> int:
        match_filter = MatchFilter(Settings(), rule_set(), Metrics())
        calls = 0
        search = match_filter._passes_search

        def counted(value: bytes) -> bool:
            nonlocal calls
            calls += 1
            return search(value)

        match_filter._passes_search = counted
        for offset, value in enumerate(values):
            list(match_filter.examine(TP, [fetched(value, offset)]))
        return calls

    assert 1 == asked([event()] * 100)
    assert 100 == asked([event("other.exe")] * 100)


def _export(match_filter: MatchFilter) -> None:
    match_filter.count_unread(Position("events", 0, 0), 0, -1)


def _counts(metrics: Metrics) -> dict[Disposition, float]:
    return {
        each: count(metrics, "records_processed_total", topic="events", outcome=each)
        for each in Disposition
    }
