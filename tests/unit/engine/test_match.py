from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import msgspec
import pytest

from pipeline.engine.decode import DecodeLimits
from pipeline.engine.match import (
    MAX_COPIED_BYTES,
    MAX_TUPLES,
    NO_MATCH,
    SKIPPED,
    Disposition,
    MatchStage,
)
from pipeline.engine.prefilter import Prefilter
from pipeline.engine.wire import Observation, decode_candidate, decode_observation_or_change, encode
from pipeline.kql import FieldTable
from pipeline.record import NO_TIMESTAMP, Position, Record
from pipeline.rules.model import NewTerms, Rule, RuleType, Severity
from pipeline.rules.ruleset import RuleSet
from tests.rules import new_terms_rule

NOON = "2024-05-01T12:00:00.000Z"
NOON_MS = 1_714_564_800_000


def rule(rule_id: str = "r1", **changes: Any) -> Rule:
    base = new_terms_rule(
        rule_id=rule_id,
        version=3,
        severity=Severity.HIGH,
        risk_score=73,
        new_terms=NewTerms(("host.id", "process.executable"), 86_400_000, "now-1d"),
        timestamp_override="event.ingested",
    )
    return dataclasses.replace(base, **changes)


def query_rule(rule_id: str = "q1", **changes: Any) -> Rule:
    return rule(rule_id, type=RuleType.QUERY, new_terms=None, **changes)


def ruleset(*rules: Rule) -> RuleSet:
    compiled, issues = RuleSet.compile(rules, FieldTable.builtin())
    assert [] == [issue for issue in issues if issue.severity == "error"]
    return compiled


def event(**changes: Any) -> dict[str, Any]:
    return {
        "@timestamp": NOON,
        "event": {"id": "e1"},
        "dll": {"name": "engine.dll"},
        "host": {"id": "h1"},
        "process": {"executable": "C:\\a.exe"},
    } | changes


def record(*events: dict[str, Any], arrival_ms: int = NOON_MS, value: bytes | None = b"") -> Record:
    if events:
        value = "\n".join(json.dumps(each) for each in events).encode()
    return Record(Position("topic", 2, 41), None, value, (), NOON_MS + 7, arrival_ms)


def test_a_match_becomes_one_observation_per_tuple() -> None:
    stage = MatchStage(ruleset(rule()))

    outcome = stage.process(record(event(host={"id": ["h1", "h2", "h1"]})))

    assert outcome.disposition is Disposition.MATCHED
    assert (("r1", 0),) == outcome.matches
    assert [("h1", "C:\\a.exe"), ("h2", "C:\\a.exe")] == [
        each.terms for each in outcome.observations
    ]
    first, second = outcome.observations
    assert (NOON_MS, "e1", False) == (first.time_ms, first.event_id, first.capped)
    assert ("host.id", "process.executable") == first.rule.fields
    assert (2, 41, NOON_MS + 7, 0) == (
        first.source.partition,
        first.source.offset,
        first.source.timestamp_ms,
        first.source.index,
    )
    assert first.alert_id != second.alert_id
    assert 40 == len(first.alert_id)
    assert 24 == len(first.key())


def test_an_observation_survives_the_wire() -> None:
    (observation,) = MatchStage(ruleset(rule())).process(record(event())).observations

    received = decode_observation_or_change(encode(observation))

    assert observation == received
    assert observation.key() == received.key()


def test_records_without_a_match_share_one_outcome() -> None:
    rules = ruleset(rule())
    stage = MatchStage(rules, prefilter=Prefilter.from_ruleset(rules))

    assert stage.process(record(event(dll={"name": "other.dll"}))) is SKIPPED
    assert stage.process(record(event(dll={"name": "x", "path": "engine.dll"}))) is NO_MATCH


@pytest.mark.parametrize(
    ("value", "reason"), [(None, "null_value"), (b"", "empty"), (b" \n ", "empty")]
)
def test_a_record_without_content_is_a_dead_letter_where_every_record_is_read(
    value: bytes | None, reason: str
) -> None:
    outcome = MatchStage(ruleset(rule())).process(record(value=value))

    assert outcome.disposition is Disposition.DEAD_LETTER
    assert outcome.error is not None
    assert reason == outcome.error.reason


@pytest.mark.parametrize("value", [None, b"", b" \n ", b"no json"])
def test_a_record_that_holds_no_literal_is_skipped_whatever_else_it_is(
    value: bytes | None,
) -> None:
    rules = ruleset(rule())
    stage = MatchStage(rules, prefilter=Prefilter.from_ruleset(rules))

    assert stage.process(record(value=value)) is SKIPPED


def test_a_dead_letter_keeps_the_observations_of_its_good_documents() -> None:
    stage = MatchStage(ruleset(rule()))
    value = json.dumps(event()).encode() + b"\n{broken\n" + json.dumps(event()).encode()

    outcome = stage.process(record(value=value))

    assert outcome.disposition is Disposition.DEAD_LETTER
    assert [0, 2] == [each.source.index for each in outcome.observations]
    assert 2 == outcome.documents


def test_an_event_without_a_value_in_a_field_has_no_tuple_and_is_counted() -> None:
    """1.5: no value in one field, no tuple: neither an alert nor history."""
    outcome = MatchStage(ruleset(rule())).process(record(event(host={"id": None})))

    assert outcome.disposition is Disposition.MATCHED
    assert () == outcome.observations
    assert 1 == outcome.without_tuple


def test_the_identity_of_an_event_is_its_id_else_its_place() -> None:
    stage = MatchStage(ruleset(rule()))

    outcome = stage.process(
        record(event(), event(event={}), event(event={"id": ""}), event(event={"id": ["x", "y"]}))
    )

    assert ["e1", "topic/2/41/1", "topic/2/41/2", "topic/2/41/3"] == [
        each.event_id for each in outcome.observations
    ]
    assert "topic/2/41" == stage.process(record(event(event={}))).observations[0].event_id


def test_the_alert_id_depends_on_rule_version_tuple_and_event() -> None:
    def alert_id(changed: Rule, **changes: Any) -> str:
        (found,) = MatchStage(ruleset(changed)).process(record(event(**changes))).observations
        return found.alert_id

    base = alert_id(rule())

    assert base == alert_id(rule(name="Renamed", description="other"))
    others = [
        alert_id(rule("r2")),
        alert_id(rule(version=4)),
        alert_id(rule(), host={"id": "h2"}),
        alert_id(rule(), event={"id": "e2"}),
    ]
    assert 5 == len({base, *others})


# --- time: see test_time.py ---------------------------------------------------------------------


def test_a_rule_that_finds_no_time_leaves_the_others_alone() -> None:
    strict = rule("strict", timestamp_override_fallback_disabled=True)
    untimed = msgspec.structs.replace(record(event()), timestamp_ms=NO_TIMESTAMP)

    outcome = MatchStage(ruleset(strict, rule("other"))).process(untimed)

    assert outcome.disposition is Disposition.DEAD_LETTER
    assert ["other"] == [each.rule.id for each in outcome.observations]


def test_an_event_without_a_match_needs_no_timestamp() -> None:
    outcome = MatchStage(ruleset(rule())).process(record({"dll": {"name": "other"}}))

    assert outcome is NO_MATCH


# --- rules --------------------------------------------------------------------------------------


def test_the_index_patterns_of_a_rule_are_asked_where_the_index_is_known() -> None:
    stream = {"type": "logs", "dataset": "endpoint.events.file", "namespace": "default"}
    stage = MatchStage(ruleset(rule(index=("logs-endpoint.events.library-*",))))
    open_stage = MatchStage(
        ruleset(rule(index=("logs-endpoint.events.library-*",))), match_index=False
    )

    assert stage.process(record(event(data_stream=stream))) is NO_MATCH
    assert 1 == len(stage.process(record(event())).observations)
    assert 1 == len(open_stage.process(record(event(data_stream=stream))).observations)


def test_a_match_of_a_query_rule_is_an_alert_at_once() -> None:
    outcome = MatchStage(ruleset(query_rule())).process(record(event()))

    (new_term,) = outcome.new_terms
    assert () == outcome.observations
    assert new_term == decode_candidate(encode(new_term))
    assert "2024-05-01T12:00:00.007Z" == json.loads(bytes(new_term.alert))["@timestamp"]
    assert new_term == MatchStage(ruleset(query_rule())).process(record(event())).new_terms[0]


def test_a_matcher_that_raises_is_counted_and_the_other_rules_go_on() -> None:
    def broken(_event: object, _memo: object) -> bool:
        raise ZeroDivisionError("what the event holds")

    rules = ruleset(rule("bad"), rule("good"))
    bad, good = rules.runnable
    stage = MatchStage(RuleSet([dataclasses.replace(bad, matcher=broken), good]))

    outcome = stage.process(record(event()))

    (failure,) = outcome.failures
    assert ("bad", "evaluation", 0) == (failure.rule_id, failure.code, failure.index)
    assert re.fullmatch(r"ZeroDivisionError in broken, test_match\.py:\d+", failure.message)
    assert ["good"] == [each.rule.id for each in outcome.observations]


def test_the_tuples_of_one_event_are_limited_and_the_rest_is_told() -> None:
    wide = event(
        host={"id": [f"h{n}" for n in range(150)]},
        process={"executable": [f"p{n}" for n in range(150)]},
    )

    outcome = MatchStage(ruleset(rule())).process(record(wide))

    assert MAX_TUPLES == len(outcome.observations)
    assert [("r1", "too_many_tuples")] == [(each.rule_id, each.code) for each in outcome.failures]


def test_an_event_is_not_copied_more_often_than_the_topics_can_bear() -> None:
    size = 1_000_000
    large = event(
        host={"id": [f"h{n}" for n in range(150)]},
        process={"executable": [f"p{n}" for n in range(150)]},
        message="x" * size,
    )

    outcome = MatchStage(ruleset(rule())).process(record(large))

    assert len(outcome.observations) == 66
    assert sum(len(bytes(each.event)) for each in outcome.observations) <= MAX_COPIED_BYTES
    assert ["too_many_tuples"] == [each.code for each in outcome.failures]


def test_a_record_over_the_limits_is_a_dead_letter() -> None:
    stage = MatchStage(ruleset(rule()), limits=DecodeLimits(max_bytes=10))

    outcome = stage.process(record(event()))

    assert outcome.error is not None
    assert "too_large" == outcome.error.reason


def test_values_with_lone_surrogates_reach_the_next_stage() -> None:
    value = json.dumps(event(host={"id": "h\ud800"})).encode()

    (found,) = MatchStage(ruleset(rule())).process(record(value=value)).observations

    assert found == decode_observation_or_change(encode(found))
    assert ("h\ufffd", "C:\\a.exe") == found.terms


def test_an_event_id_of_a_megabyte_does_not_make_an_observation_too_large_to_send() -> None:
    stage = MatchStage(ruleset(rule()))

    def seen(length: int) -> Observation:
        return stage.process(record(event(event={"id": "\\" * length}))).observations[0]

    first, again, other = seen(490_000), seen(490_000), seen(490_001)

    assert first.event_id == again.event_id
    assert first.event_id.startswith("sha256:")
    assert first.alert_id != other.alert_id
    assert len(encode(first)) < 1_048_576
    assert seen(512).event_id == "\\" * 512
