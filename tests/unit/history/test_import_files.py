from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from pipeline.cli.history import FORMATS as OFFERED
from pipeline.config import Settings
from pipeline.engine.wire import Learn
from pipeline.errors import EventsFileError
from pipeline.history import ImportReader
from pipeline.history.import_files import FORMATS
from pipeline.kql import FieldTable
from pipeline.replay import EventLine
from pipeline.rules import RuleSet, RuleType, load_rules
from pipeline.rules.timestamp import parse_timestamp
from tests.events import encode, library_event
from tests.rules import BUILTIN_RULE

TOLD = "2026-03-01T10:00:00.000Z"
NOW_MS = parse_timestamp("2026-04-01T00:00:00Z") or 0


@pytest.fixture(scope="module")
def ruleset() -> RuleSet:
    return RuleSet.compile(load_rules(None).rules, FieldTable.builtin())[0]


def lines(*values: Any) -> list[EventLine]:
    texts = [v if isinstance(v, bytes) else json.dumps(v).encode() for v in values]
    return [EventLine("file.ndjson", number, text) for number, text in enumerate(texts, 1)]


def read(ruleset: RuleSet, kind: str, *values: Any, **options: Any) -> tuple[list[Learn], Any]:
    settings = Settings.load(overrides=options.pop("overrides", None), environ={})
    reader = ImportReader(ruleset, settings, now_ms=NOW_MS, **options)
    return list(reader.read(kind, lines(*values))), reader.counts


def alert(*terms: str, time: str | None = TOLD, rule: str = BUILTIN_RULE) -> dict[str, Any]:
    return {
        "@timestamp": "2026-03-01T10:05:00Z",
        "kibana.alert.rule.rule_id": rule,
        "kibana.alert.new_terms": list(terms),
        **({"kibana.alert.original_time": time} if time else {}),
    }


def fields(ruleset: RuleSet) -> tuple[str, ...]:
    compiled = ruleset.get(BUILTIN_RULE)
    assert compiled is not None
    assert compiled.rule.new_terms is not None
    return compiled.rule.new_terms.fields


def tuple_of(ruleset: RuleSet, name: str = "tool") -> tuple[str, ...]:
    """Return a term for each field of the built-in rule."""
    return tuple(f"{name}-{number}" for number in range(len(fields(ruleset))))


def test_the_command_offers_every_kind_of_file() -> None:
    assert FORMATS == OFFERED


def test_an_alert_of_kibana_teaches_its_tuple_at_the_time_of_its_event(ruleset: RuleSet) -> None:
    terms = tuple_of(ruleset)

    learned, counts = read(ruleset, "alerts", alert(*terms))

    compiled = ruleset.get(BUILTIN_RULE)
    assert compiled is not None
    time_ms = parse_timestamp(TOLD)
    assert [(BUILTIN_RULE, compiled.history_id, terms, time_ms, time_ms, 1)] == [
        (each.rule_id, each.history, each.terms, each.first_ms, each.last_ms, each.count)
        for each in learned
    ]
    assert {} == counts.skipped


def test_alerts_are_found_in_hits_and_answers_of_a_search_and_as_nested_objects(
    ruleset: RuleSet,
) -> None:
    a, b, c = (tuple_of(ruleset, name) for name in "abc")
    nested = {
        "kibana": {
            "alert": {
                "rule": {"rule_id": BUILTIN_RULE},
                "new_terms": list(c),
                "original_time": TOLD,
            }
        }
    }

    learned, counts = read(
        ruleset,
        "alerts",
        {"_index": "i", "_source": alert(*a)},
        {"hits": {"hits": [{"_source": alert(*b)}, {"_source": nested}]}},
    )

    assert {a, b, c} == {each.terms for each in learned}
    assert 3 == counts.read


def test_what_teaches_nothing_is_counted_with_its_reason(ruleset: RuleSet) -> None:
    terms = tuple_of(ruleset)

    learned, counts = read(
        ruleset,
        "alerts",
        {"rule": "none of ours"},
        alert(*terms, rule="unknown"),
        alert(*terms, time=None),
        alert(*terms, "one too many"),
    )

    assert [] == learned
    assert {
        "not_a_new_terms_alert": 1,
        "unknown_rule": 1,
        "no_time": 1,
        "other_fields": 1,
    } == counts.skipped


def test_several_alerts_of_one_tuple_are_one_term_with_both_ends_of_time(ruleset: RuleSet) -> None:
    terms = tuple_of(ruleset)
    later = "2026-03-20T10:00:00.000Z"

    learned, counts = read(ruleset, "alerts", alert(*terms, time=later), alert(*terms))

    assert [(parse_timestamp(TOLD), parse_timestamp(later), 2)] == [
        (each.first_ms, each.last_ms, each.count) for each in learned
    ]
    assert {BUILTIN_RULE: 1} == counts.learned


def test_nothing_is_learned_to_be_seen_after_now(ruleset: RuleSet) -> None:
    learned, _ = read(ruleset, "alerts", alert(*tuple_of(ruleset), time="2099-01-01T00:00:00Z"))

    assert [NOW_MS] == [each.last_ms for each in learned]


def bucket(key: Any, **more: Any) -> dict[str, Any]:
    return {
        "key": key,
        "doc_count": 7,
        "first_seen": {"value": 1_772_000_000_000.0},
        "last_seen": {"value": 1_772_100_000_000.0},
        **more,
    }


def test_an_answer_to_a_composite_aggregation_teaches_its_buckets(ruleset: RuleSet) -> None:
    terms = tuple_of(ruleset)
    key = dict(zip(fields(ruleset), terms, strict=True))
    answer = {"took": 1, "aggregations": {"tuples": {"after_key": {}, "buckets": [bucket(key)]}}}

    learned, _ = read(ruleset, "aggregation", answer, answer, rule_id=BUILTIN_RULE)

    assert [(terms, 1_772_000_000_000, 1_772_100_000_000, 14)] == [
        (each.terms, each.first_ms, each.last_ms, each.count) for each in learned
    ]


def test_an_answer_may_be_one_document_over_many_lines(ruleset: RuleSet) -> None:
    key = dict(zip(fields(ruleset), tuple_of(ruleset), strict=True))
    answer = {"aggregations": {"tuples": {"buckets": [bucket(key)]}}}
    pretty = json.dumps(answer, indent=2).encode().splitlines()

    learned, _ = read(ruleset, "aggregation", *pretty, rule_id=BUILTIN_RULE)

    assert 1 == len(learned)


def test_a_multi_terms_aggregation_has_its_terms_in_a_list(ruleset: RuleSet) -> None:
    answer = {"aggregations": {"tuples": {"buckets": [bucket(list(tuple_of(ruleset)))]}}}

    learned, _ = read(ruleset, "aggregation", answer, rule_id=BUILTIN_RULE)

    assert [tuple_of(ruleset)] == [each.terms for each in learned]


def test_a_bucket_without_a_last_time_or_with_other_fields_is_skipped(ruleset: RuleSet) -> None:
    key = dict(zip(fields(ruleset), tuple_of(ruleset), strict=True))
    answer = {
        "aggregations": {
            "t": {"buckets": [bucket(key, last_seen={"value": None}), bucket({"else": "x"})]}
        }
    }

    _, counts = read(ruleset, "aggregation", answer, rule_id=BUILTIN_RULE)

    assert {"no_time": 1, "other_fields": 1} == counts.skipped


def test_a_file_of_another_kind_is_said_to_be_one(ruleset: RuleSet) -> None:
    with pytest.raises(EventsFileError, match="aggregations"):
        read(ruleset, "aggregation", {"hits": {}}, rule_id=BUILTIN_RULE)
    with pytest.raises(EventsFileError, match=r"file\.ndjson:1: this is not JSON"):
        read(ruleset, "alerts", b"no JSON")


def test_terms_are_read_through_the_field_types_of_the_rule() -> None:
    rule = next(r for r in load_rules(None).rules if r.rule_id == BUILTIN_RULE)
    assert rule.new_terms is not None
    changed = dataclasses.replace(
        rule,
        new_terms=dataclasses.replace(
            rule.new_terms, fields=("source.ip", "process.name.caseless", "process.pid")
        ),
    )
    ruleset, _ = RuleSet.compile([changed], FieldTable.builtin())

    learned, counts = read(ruleset, "alerts", alert("2001:DB8:0::1", "Tool.EXE", "42"))

    assert {} == counts.skipped
    assert [("2001:db8::1", "tool.exe", 42)] == [each.terms for each in learned]


def test_events_teach_what_the_rules_match(ruleset: RuleSet) -> None:
    match = encode(library_event(executable="tool.exe"))
    other = encode(library_event(dll="other.dll"))

    learned, counts = read(ruleset, "events", match, match, other, b"{")

    assert [(BUILTIN_RULE, 2)] == [(each.rule_id, each.count) for each in learned]
    assert {"no_match": 2} == counts.skipped


def test_no_alert_is_made_of_events_that_a_query_rule_matches(
    ruleset: RuleSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be dropped, and what it costs would count against the event."""
    made: list[object] = []

    def make(*values: object, **_: object) -> bytes:
        made.append(values)
        return b"{}"

    monkeypatch.setattr("pipeline.engine.match.build_match_alert", make)
    (rule,) = (compiled.rule for compiled in ruleset.rules)
    of_type_query = dataclasses.replace(rule, rule_id="q", type=RuleType.QUERY, new_terms=None)
    match = json.loads(encode(library_event()))
    for rules, expected in (((rule, of_type_query), 1), ((of_type_query,), 0)):
        both, _ = RuleSet.compile(rules, FieldTable.builtin())
        learned, counts = read(both, "events", match)

        assert (len(learned), counts.skipped.total()) == (expected, 1 - expected)
        assert made == []


def test_tuples_beyond_what_an_event_may_have_are_counted_as_skipped(ruleset):
    event = library_event(number=1)
    event["host"]["id"] = [f"h{number}" for number in range(200)]
    event["user"]["id"] = [f"u{number}" for number in range(200)]

    learned, counts = read(ruleset, "events", encode(event))

    assert len(learned) == 10_000
    assert counts.skipped == {"too_many_tuples": 1}


def test_events_are_judged_under_the_settings_of_the_worker(ruleset: RuleSet) -> None:
    large = encode({**library_event(executable="tool.exe"), "labels": {"note": "x" * 5_000}})

    learned, counts = read(ruleset, "events", large, overrides={"stream.max_event_bytes": "4KiB"})

    assert ([], {"too_large": 1}) == (learned, counts.skipped)
    learned, counts = read(ruleset, "events", large, overrides={"stream.max_event_bytes": "8KiB"})
    assert [BUILTIN_RULE] == [each.rule_id for each in learned]


def exported(ruleset: RuleSet, history: str) -> dict[str, Any]:
    return {
        "rule_id": BUILTIN_RULE,
        "history": history,
        "window_ms": 1,
        "terms": list(tuple_of(ruleset)),
        "first_seen": TOLD,
        "last_seen": TOLD,
        "count": 3,
    }


def test_what_was_exported_keeps_its_history_unless_told_otherwise(ruleset: RuleSet) -> None:
    compiled = ruleset.get(BUILTIN_RULE)
    assert compiled is not None
    row = exported(ruleset, "00" * 8)

    kept, _ = read(ruleset, "firstseen", row)
    moved, _ = read(ruleset, "firstseen", row, into_current=True)

    assert ["00" * 8] == [each.history for each in kept]
    assert [compiled.history_id] == [each.history for each in moved]
    assert 1 != moved[0].window_ms


@pytest.mark.parametrize(
    "damage",
    [{"history": "xyz"}, {"history": "00"}, {"last_seen": "soon"}, {"count": "many"}, {"row": "0"}],
)
def test_a_damaged_line_of_an_export_is_skipped(ruleset: RuleSet, damage: dict[str, Any]) -> None:
    learned, counts = read(ruleset, "firstseen", exported(ruleset, "00" * 8) | damage)

    assert [] == learned
    assert {"invalid_row": 1} == counts.skipped


def test_only_the_rule_that_was_asked_for_learns(ruleset: RuleSet) -> None:
    _, counts = read(ruleset, "firstseen", exported(ruleset, "00" * 8), rule_id="another")

    assert {"another_rule": 1} == counts.skipped


ROW = {
    "rule_id": BUILTIN_RULE,
    "history": "ab" * 8,
    "window_ms": 1_000,
    "terms": ["a"],
    "first_seen": TOLD,
    "last_seen": TOLD,
    "count": 1,
}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"count": 10**30}, "invalid_row"),
        ({"window_ms": 10**30}, "invalid_row"),
        ({"window_ms": -1}, "invalid_row"),
        ({"terms": [10**30]}, "invalid_row"),
        ({"terms": ["x" * 1_048_576]}, "too_large"),
    ],
)
def test_a_row_that_no_worker_could_keep_is_not_sent_to_one(ruleset, changes, reason):
    kept, _ = read(ruleset, "firstseen", ROW)
    learned, counts = read(ruleset, "firstseen", ROW | changes)

    assert len(kept) == 1
    assert learned == []
    assert counts.skipped == {reason: 1}


def test_counts_add_up_to_what_a_row_can_hold(ruleset):
    row = ROW | {"count": 2**62}
    key = dict.fromkeys(fields(ruleset), "x")
    bucket = {"key": key, "doc_count": 2**63, "last_seen": {"value": 1_772_438_400_000}}

    (learned,), _ = read(ruleset, "firstseen", row, row, row)
    (of_bucket,), _ = read(
        ruleset, "aggregation", {"aggregations": {"t": {"buckets": [bucket]}}}, rule_id=BUILTIN_RULE
    )

    assert learned.count == of_bucket.count == 2**62


def test_terms_for_a_history_that_no_rule_has_are_told(ruleset: RuleSet) -> None:
    current = ruleset.get(BUILTIN_RULE)
    assert current is not None
    of_now = exported(ruleset, current.history_id)
    others = [exported(ruleset, h) for h in ("ab" * 8, "cd" * 8)]
    others[1]["rule_id"] = "gone"

    learned, counts = read(ruleset, "firstseen", of_now, *others)

    assert len(learned) == 3
    assert counts.unused == {BUILTIN_RULE: 1, "gone": 1}
    assert counts.summary()["unused"] == {BUILTIN_RULE: 1, "gone": 1}
