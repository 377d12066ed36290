"""What a record may cost: work is shared or counted, never without a bound. Counted in calls."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations
from typing import Any

import pytest

from pipeline.engine.decode import DecodeLimits
from pipeline.engine.match import MAX_TUPLES, Disposition, MatchStage, Outcome
from pipeline.kql import FieldTable
from pipeline.record import Position, Record
from pipeline.rules import NewTerms, RuleSet
from pipeline.rules.model import RuleType
from tests.calls import calls_of
from tests.events import encode, library_event
from tests.rules import new_terms_rule

LINE = "process.command_line"
VALUES = 3_000
TERMS = NewTerms(("user.id",), 604_800_000, "now-7d")
NUMBERS = {"process": {"pid": list(range(VALUES))}}
ADDRESSES = {"host": {"ip": [f"10.0.{n >> 8}.{n & 255}" for n in range(VALUES)]}}
DATES = {"event": {"created": [f"2026-03-02T08:00:{n % 60:02}Z" for n in range(VALUES)]}}
TEXT = {"message": "a b c " * VALUES}
OBJECTS = [{"subject_name": f"name {n}"} for n in range(VALUES)]
NESTED = {"dll": {"name": "engine.dll", "Ext": {"code_signature": OBJECTS}}}
SPREAD = {"process": [{"parent": {"pid": n}} for n in range(VALUES)]}
ARGUMENTS = {"process": {"args": [f"value {n}" for n in range(VALUES)]}}


def stage_of(queries: Iterable[str], **changes: Any) -> MatchStage:
    rules = [
        new_terms_rule(**({"query": query, "rule_id": f"r{n}", "new_terms": TERMS} | changes))
        for n, query in enumerate(queries)
    ]
    ruleset, issues = RuleSet.compile(rules, FieldTable.builtin())
    assert len(ruleset.runnable) == len(rules), issues
    return MatchStage(ruleset)


def record(value: bytes | dict[str, Any]) -> Record:
    value = value if isinstance(value, bytes) else encode(library_event() | value)
    return Record(Position("t", 0, 1), None, value, (), 1_772_438_400_000, 1_772_438_400_000)


def apart(clauses: Iterable[str]) -> str:
    """Alternatives each of which is a test by itself."""
    return " or ".join(f"({clause} and host.os.type:windows)" for clause in clauses)


@pytest.mark.parametrize(
    ("clause", "event"),
    [
        ("message:word{n}", TEXT),
        ('message:"a b {n}"', TEXT),
        ("message >= zz{n}", TEXT),
        ("message:*word{n}*", TEXT),
        ("process.pid > {n}0000", NUMBERS),
        ("process.pid:{n}0000", NUMBERS),
        ('host.ip:"11.0.{n}.0/23"', ADDRESSES),
        ('event.created:"2025-01-01T00:00:00.{n}Z"', DATES),
        ("process.args > zz{n}", ARGUMENTS),
        ("process.args:*evil{n}*", ARGUMENTS),
        ("dll.Ext.code_signature:{{ subject_name:x{n} }}", NESTED),
        ("dll.Ext.code_signature:{{ subject_name:*x{n}* }}", NESTED),
        ("word{n}", ARGUMENTS),
        ("*word{n}*", ARGUMENTS),
        ("process.parent.name:x{n}", SPREAD),
        ("process.parent.pe:*", SPREAD),
    ],
)
def test_what_an_event_holds_is_looked_through_once_for_all_clauses(
    clause: str, event: dict[str, Any]
) -> None:
    def calls(clauses: int) -> int:
        stage = stage_of([apart(clause.format(n=50 + n) for n in range(clauses))])
        outcome = stage.process(record(event))
        assert outcome.disposition is Disposition.NO_MATCH
        return calls_of(lambda: stage.process(record(event)))

    # One that is looked through for each clause would be 100 * `VALUES` calls more.
    assert calls(200) - calls(100) < 100 * 100


@pytest.mark.parametrize("kind", [RuleType.NEW_TERMS, RuleType.QUERY])
def test_terms_times_and_alerts_are_worked_out_once_for_all_rules(kind: RuleType) -> None:
    event = ADDRESSES | {"@timestamp": [f"2026-03-02T08:00:00.{n:06}Z" for n in range(VALUES)]}
    terms = NewTerms(("host.ip",), 604_800_000, "now-7d")
    changes = {"type": kind, "new_terms": None if kind is RuleType.QUERY else terms}

    def calls(rules: int) -> int:
        stage = stage_of(["host.id:*"] * rules, **changes)
        return calls_of(lambda: stage.process(record(event)))

    tuples = 40 * MAX_TUPLES if kind is RuleType.NEW_TERMS else 0
    assert calls(40) - calls(20) < 20 * 500 + tuples


def test_rules_share_the_tuples_of_an_event() -> None:
    stage = stage_of(["host.id:*"] * 4, new_terms=NewTerms(("process.args",), 86_400_000, "now-1d"))

    outcome = stage.process(record({"process": {"args": [f"v{n}" for n in range(9_000)]}}))

    of_rule = [each.rule.id for each in outcome.observations]
    shares = {of_rule.count(f"r{n}") for n in range(4)}
    assert len(shares) == 1
    assert 0 < len(of_rule) <= MAX_TUPLES
    assert ["too_many_tuples"] * 4 == [failure.code for failure in outcome.failures]


def test_each_rule_takes_a_tuple_of_the_largest_event() -> None:
    stage = stage_of(["host.id:*"] * 70)

    outcome = stage.process(record({"message": "x" * 1_000_000}))

    assert [f"r{n}" for n in range(70)] == [each.rule.id for each in outcome.observations]
    assert () == outcome.failures


ORDERS = ["*".join(order) for order in permutations("abcdef")]
COSTLY = f"{LINE}:({' or '.join(f'*{order}*' for order in ORDERS if order[0] != 'f')})"
HOSTILE = {"process": {"command_line": [f"fedcba{n}" for n in range(9_000)]}}
"""Each value holds all parts of each pattern, in an order that none has."""


def judged(queries: Iterable[str], event: dict[str, Any]) -> Outcome:
    return stage_of(queries).process(record(event))


def test_what_no_sharing_makes_cheap_is_a_dead_letter_that_names_the_rule() -> None:
    outcome = judged([COSTLY], HOSTILE)

    assert outcome.disposition is Disposition.DEAD_LETTER
    assert outcome.error is not None
    assert "too_costly" == outcome.error.reason
    assert "rule r0" in str(outcome.error)


def test_a_dead_letter_tells_what_was_wrong_first() -> None:
    value = encode(library_event() | HOSTILE) + b'\n{"a":1,"a":2}'

    outcome = stage_of([COSTLY]).process(record(value))

    assert outcome.error is not None
    assert outcome.error.reason == "duplicate_key"


def test_rules_that_cost_little_judge_what_others_would_take_too_long_for() -> None:
    cheap = "host.os.type:windows"
    found = judged([cheap, COSTLY, *[COSTLY] * 3, cheap], HOSTILE)

    assert [("r0", 0), ("r5", 0)] == list(found.matches)
    assert ["r0", "r5"] == [each.rule.id for each in found.observations]
    assert found.error is not None


def test_a_rule_may_spend_a_little_after_others_have_spent_all() -> None:
    event = {"process": HOSTILE["process"] | {"args": ["--load", "evil.dll"]}}
    little = "process.args:*evil*dll"

    found = judged([COSTLY, little, little, COSTLY], event)

    assert [("r1", 0), ("r2", 0)] == list(found.matches)
    assert ["r1", "r2"] == [each.rule.id for each in found.observations]


def test_usual_values_cost_the_same_rule_nothing() -> None:
    usual = {"process": {"command_line": "tool.exe --load a b c"}}

    assert judged([COSTLY], usual).disposition is Disposition.NO_MATCH
    usual = {"process": {"command_line": "a tool by code for e.g. f"}}
    assert judged([COSTLY], usual).disposition is Disposition.MATCHED


def test_a_record_of_many_documents_that_many_rules_match_is_bounded() -> None:
    small = b'{"dll.name":"x","user.id":"%d","@timestamp":"2026-03-02T08:00:00Z"}'
    value = b"\n".join(small % n for n in range(DecodeLimits().max_documents))
    stage = stage_of(["dll.name:x"] * 100)

    outcome = stage.process(record(value))

    assert outcome.error is not None
    assert "too_costly" == outcome.error.reason
    assert len(outcome.observations) < 20_000


def test_the_same_record_ends_the_same_way_each_time() -> None:
    stage = stage_of([COSTLY, "host.os.type:windows", COSTLY])
    one, other = stage.process(record(HOSTILE)), stage.process(record(HOSTILE))

    assert str(one.error) == str(other.error)
    assert one.observations == other.observations


def test_keys_that_are_long_at_many_levels_make_no_longer_paths() -> None:
    event: dict[str, Any] = {f"k{n}": "v" for n in range(2_000)}
    for _ in range(50):
        event = {"k" * 5_000: event}
    stage = stage_of(["never-there or labels.a:b"])

    assert calls_of(lambda: stage.process(record({"labels": event}))) < 100_000
