"""The search on raw bytes never hides a match, however a writer spells the event."""

from __future__ import annotations

import dataclasses
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.match import MatchStage
from pipeline.engine.prefilter import Prefilter
from pipeline.kql import FieldTable
from pipeline.record import Position, Record
from pipeline.rules.model import NewTerms, Rule, RuleType, Severity
from pipeline.rules.ruleset import RuleSet

BASE = Rule(
    rule_id="",
    name="n",
    description="",
    type=RuleType.NEW_TERMS,
    version=1,
    severity=Severity.LOW,
    risk_score=1,
    new_terms=NewTerms(("process.name",), 86_400_000, "now-1d"),
)
QUERIES = (
    'dll.name:("System.Core.dll" or "Engine.ni.dll") and not process.name:"trusted.exe"',
    "process.name.caseless:(kiosk.exe or *skin?hollow*)",
    "process.executable:*\\\\Temp\\\\*loader.exe",
)


def compile_rules(*queries: str) -> RuleSet:
    rules = [
        dataclasses.replace(BASE, rule_id=f"r{number}", query=query)
        for number, query in enumerate(queries)
    ]
    return RuleSet.compile(rules, FieldTable.builtin())[0]


RULES = compile_rules(*QUERIES)
PREFILTER = Prefilter.from_ruleset(RULES)

names = st.sampled_from(
    [
        "System.Core.dll",
        "system.core.dll",
        "Engine.ni.dll",
        "kiosk.exe",
        "KIOSK.EXE",
        "\u212aiosk.exe",
        "k\u0130osk.exe",
        "a S\u212ain?Hollow",
        "C:\\Temp\\x\\loader.exe",
        "C:\\Temp\\loader.EXE",
        "other",
    ]
)


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    """A JSON string with some characters as escapes."""
    escaped = draw(st.sets(st.integers(0, max(len(text) - 1, 0)), max_size=3))
    return "".join(
        f"\\u{ord(each):04x}" if place in escaped else json.dumps(each)[1:-1]
        for place, each in enumerate(text)
    )


@st.composite
def records(draw: st.DrawFn) -> Record:
    dll, process, path = (draw(names.flatmap(spelled)) for _ in range(3))
    value = (
        f'{{"@timestamp":"2024-05-01T00:00:00Z","dll":{{"name":"{dll}"}},'
        f'"process":{{"name":"{process}","executable":"{path}"}}}}'
    )
    return Record(Position("t", 0, 0), None, value.encode(), (), 0, 2**50)


@settings(max_examples=600, deadline=None)
@given(records())
def test_what_the_prefilter_rules_out_matches_no_rule(record: Record) -> None:
    plain = MatchStage(RULES).process(record)
    filtered = MatchStage(RULES, prefilter=PREFILTER).process(record)

    assert PREFILTER.enabled
    assert record.value is not None
    assert PREFILTER.may_match(record.value) or not plain.matches
    assert plain.matches == filtered.matches


def test_a_rule_without_a_literal_switches_the_search_off_and_is_named() -> None:
    prefilter = Prefilter.from_ruleset(compile_rules(QUERIES[0], "process.pid > 4"))

    assert not prefilter.enabled
    assert ("r1",) == prefilter.unselective
    assert prefilter.may_match(b"anything")


def test_a_needle_that_contains_another_one_is_not_searched() -> None:
    prefilter = Prefilter(["System.Core", "System.Core.dll", "Other.dll"], ["other", "another"])

    assert ((b"System.Core",), (b"other",)) == (prefilter.needles, prefilter.caseless_needles)
    assert prefilter.may_match(b"..OTHER..")
    assert not prefilter.may_match(b"system.core")


def test_escapes_that_spell_no_letter_do_not_send_a_record_the_long_way() -> None:
    prefilter = Prefilter(["System.Core.dll"])

    assert not prefilter.may_match(b'{"a":"x\\u001f\\u00e9"}')
    assert prefilter.may_match(b'{"a":"\\u0053ystem"}')
