"""The search on raw bytes never hides a match, however a writer spells the event."""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from unittest.mock import patch

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.engine import prefilter as prefilter_module
from pipeline.engine.anchors import NeedleCounts, choose_anchors
from pipeline.engine.decode import DecodeLimits, decode
from pipeline.engine.match import MatchStage
from pipeline.engine.prefilter import Prefilter
from pipeline.engine.rule_index import RuleIndex
from pipeline.engine.spelling import is_value, plain, spelling
from pipeline.kql import FieldTable, Needle, format_query
from pipeline.kql.values.folding import lower
from pipeline.record import Position, Record
from pipeline.rules.model import NewTerms, RuleType
from pipeline.rules.ruleset import RuleSet
from tests.events import encode
from tests.json_spellings import json_texts, strings
from tests.rules import new_terms_rule
from tests.strategies import (
    TABLE,
    events,
    keyword_events,
    keyword_queries,
    queries,
    selective_queries,
    wordy_events,
)

BASE = new_terms_rule(new_terms=NewTerms(("process.name",), 86_400_000, "now-1d"))
QUERIES = (
    'dll.name:("System.Core.dll" or "Engine.ni.dll") and not process.name:"trusted.exe"',
    "process.name.caseless:(kiosk.exe or *skin?hollow*)",
    "process.executable:*\\\\Temp\\\\*loader.exe",
    'process.name:(process or "a \\"b\\" c") and event.action:(load or 4688)',
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
        *["System.Core.dll", "system.core.dll", "Engine.ni.dll", "trusted.exe", "other"],
        *["kiosk.exe", "KIOSK.EXE", "\u212aiosk.exe", "k\u0130osk.exe", "a S\u212ain?Hollow"],
        *["C:\\Temp\\x\\loader.exe", "C:\\Temp\\loader.EXE", "\\u0041", 'a "b" c', "process"],
    ]
)


@st.composite
def raw_events(draw: st.DrawFn) -> str:
    dll, process, path = (draw(names) for _ in range(3))
    event = {
        "@timestamp": "2024-05-01T00:00:00Z",
        "dll": {"name": dll},
        "process": {"name": process, "executable": path},
        "event": {"action": draw(st.sampled_from(["load", 4688, 4688.0, "no", ["x", "load"]]))},
    }
    return draw(json_texts(event))


def record(value: bytes) -> Record:
    return Record(Position("t", 0, 0), None, value, (), 0, 2**50)


def check(prefilter: Prefilter, rules: RuleSet, values: list[bytes]) -> None:
    """Compare the search with what the rules say, of each value and of all in one piece."""
    piece, ends = b"", []
    for value in values:
        piece += b"\x12\x00key" + value
        ends.append(len(piece))
    found = {bisect_right(ends, position) for position in prefilter.positions(piece)}
    with patch.object(prefilter_module, "_WINDOW_BYTES", 48):  # as in a piece of many megabytes
        found &= {bisect_right(ends, position) for position in prefilter.positions(piece)}
    for number, value in enumerate(values):
        plain_outcome = MatchStage(rules).process(record(value))
        assert (
            plain_outcome.matches
            == MatchStage(rules, prefilter=prefilter).process(record(value)).matches
        )
        if plain_outcome.matches:
            assert prefilter.may_match(value)
            assert number in found


@settings(max_examples=400)
@given(st.lists(raw_events(), min_size=1, max_size=4))
def test_what_the_search_rules_out_matches_no_rule(texts: list[str]) -> None:
    assert PREFILTER.enabled

    check(PREFILTER, RULES, [text.encode() for text in texts])


@st.composite
def searched(draw: st.DrawFn) -> tuple[RuleSet, list[bytes], list[bytes]]:
    """Rules that can be searched for, the values they are asked of, and the traffic before."""
    several = draw(st.lists(selective_queries(), min_size=1, max_size=6))
    terms = dataclasses.replace(BASE, new_terms=NewTerms(("k",), 86_400_000, "now-1d"))
    rules = [
        dataclasses.replace(terms, rule_id=f"r{number}", query=format_query(node))
        for number, node in enumerate(several)
    ]
    unselective = Prefilter.from_ruleset(RuleSet.compile(rules, TABLE)[0]).unselective
    ruleset = RuleSet.compile([r for r in rules if r.rule_id not in unselective], TABLE)[0]
    assume(Prefilter.from_ruleset(ruleset).enabled)
    texts = draw(st.lists(wordy_events().flatmap(json_texts), min_size=1, max_size=3))
    traffic = draw(st.lists(wordy_events().map(encode), min_size=1, max_size=3))
    return ruleset, [text.encode("utf-8", "surrogatepass") for text in texts], traffic


@settings(max_examples=400)
@given(searched())
def test_whatever_the_rules_and_the_traffic_are_no_match_is_lost(drawn) -> None:
    rules, values, traffic = drawn
    prefilter = Prefilter.from_ruleset(rules)

    for value in traffic:
        prefilter.positions(value)
    check(prefilter, rules, values)
    # No traffic changes what is searched for so that another record goes on.
    fresh = Prefilter.from_ruleset(rules)
    assert [fresh.may_match(v) for v in values] == [prefilter.may_match(v) for v in values]


needles = st.builds(
    Needle,
    st.text(alphabet='ab\\"ki<0u ', min_size=1, max_size=6),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=500)
@given(needles, st.text(alphabet='aAé/\\"\u212a\u0130\u20acu0😀', max_size=4), st.data())
def test_a_needle_stands_in_plain_json_wherever_a_value_holds_it(
    needle: Needle, around: str, data: st.DataObject
) -> None:
    inner = needle.text
    if needle.caseless:
        doubles = {"k": "kK\u212a", "i": "iI\u0130"}
        choices = [st.sampled_from(doubles.get(c, c + c.upper())) for c in inner]
        inner = "".join(data.draw(st.tuples(*choices)))
        assert needle.text == lower(inner)
    value = ("" if needle.starts else around) + inner + ("" if needle.ends else around)
    after = data.draw(st.sampled_from([",", "]", "}", " ", "\t", "\n", "\r"]))
    text = plain((data.draw(strings(value)) + after).encode())

    wanted = spelling(needle)
    if needle.caseless:
        text, wanted = text.lower(), wanted.lower()
    places = [place for place in range(len(text)) if text.startswith(wanted, place)]
    assert any(not needle.ends or is_value(text, place + len(wanted)) for place in places)


@given(raw_events())
def test_plain_json_means_the_same_but_for_two_letters(text: str) -> None:
    (document,) = decode(text.encode(), DecodeLimits()).documents
    (other,) = decode(plain(text.encode()), DecodeLimits()).documents

    assert document.event["event"] == other.event["event"]
    for field, name in [("dll", "name"), ("process", "name"), ("process", "executable")]:
        before = document.event[field][name].replace("\u212a", "k").replace("\u0130", "i")
        assert before == other.event[field][name]


clauses = st.frozensets(st.sampled_from("abcdef").map(Needle), min_size=1, max_size=3)
requirements = st.lists(clauses, min_size=1, max_size=3).map(tuple)


@given(
    st.lists(requirements, min_size=1, max_size=8),
    st.dictionaries(st.sampled_from("abcdef").map(Needle), st.integers(0, 10**6)),
    st.integers(0, 10**9),
)
def test_anchors_hold_a_clause_of_each_rule_at_no_more_than_the_first_ones_price(
    rules, values, size
) -> None:
    counts = NeedleCounts()
    counts.values.update(values)
    counts.bytes = size

    anchors = choose_anchors(rules, counts)

    assert all(any(clause <= anchors for clause in clauses) for clauses in rules)
    first = frozenset(needle for clauses in rules for needle in clauses[0])
    assert counts.price(anchors) <= counts.price(first)


@settings(max_examples=150)
@given(
    st.lists(keyword_queries() | queries(), min_size=6, max_size=12),
    st.lists(keyword_events() | events(), min_size=1, max_size=3),
)
def test_an_index_of_many_rules_leaves_none_out_that_matches(nodes, documents) -> None:
    alone = dataclasses.replace(BASE, type=RuleType.QUERY, new_terms=None)
    rules = [
        dataclasses.replace(alone, rule_id=str(number), query=query)
        for number, query in enumerate(map(format_query, nodes))
    ]
    ruleset = RuleSet.compile(rules, TABLE)[0]
    assume(len(ruleset.runnable) > 4)
    index = RuleIndex((int(each.rule.rule_id), each) for each in ruleset.runnable)

    for event in documents:
        matching = [int(each.rule.rule_id) for each in ruleset.runnable if each.matcher(event)]
        candidates = index.candidates(event, None, {})
        assert set(matching) <= set(candidates)
        assert sorted(candidates) == list(candidates)


def test_an_index_asks_only_the_rules_whose_values_an_event_has() -> None:
    queries = [f"event.category:process and process.name:(x{n}.exe or y{n}.exe)" for n in range(9)]
    ruleset = compile_rules(*queries, "event.category:file", "process.pid > 4")
    index = RuleIndex((each.rule.rule_id, each) for each in ruleset.runnable)

    def candidates(category: object, name: str) -> list[str]:
        event = {"event": {"category": category}, "process": {"name": name}}
        return list(index.candidates(event, None, {}))

    assert ["r3", "r10"] == candidates("process", "y3.exe")
    assert ["r3", "r9", "r10"] == candidates(["file", "process"], "x3.exe")
    assert ["r9", "r10"] == candidates("file", "x3.exe")
    assert ["r10"] == candidates(None, "x3.exe")


def test_a_rule_without_a_clause_switches_the_search_off_and_is_named() -> None:
    prefilter = Prefilter.from_ruleset(compile_rules(QUERIES[0], "process.pid > 4"))

    assert not prefilter.enabled
    assert ("r1",) == prefilter.unselective
    assert prefilter.may_match(b"anything")


def test_a_text_that_is_a_key_answers_no_clause_for_a_value() -> None:
    prefilter = Prefilter.from_ruleset(compile_rules("event.category:process"))

    assert not prefilter.may_match(b'{"process":{"pid":4}}')
    assert not prefilter.may_match(b'{"a":"the process","b":"processes"}')
    for value in (b'{"a":"process"}', b'{"a":["process" ]}', b'{"a":"process","b":1}'):
        assert prefilter.may_match(value)


def test_escapes_are_read_before_a_record_is_let_through() -> None:
    prefilter = Prefilter.from_ruleset(compile_rules("dll.name:System.Core.dll"))

    assert not prefilter.may_match(b'{"a":"x\\u001f\\u00e9 \\u0041"}')
    assert not prefilter.may_match(b'{"a":"\\\\u0053ystem.Core.dll"}')
    assert prefilter.may_match(b'{"a":"\\u0053ystem.Core.dll"}')


def test_a_text_is_found_wherever_it_lies_in_a_piece_that_is_searched_in_windows() -> None:
    prefilter = Prefilter.from_ruleset(compile_rules("dll.name:System.Core.dll"))
    value = b'"System.Core.dll"'

    with patch.object(prefilter_module, "_WINDOW_BYTES", 32):
        for start in range(100):
            piece = b"x" * start + value + b"x" * 40
            (found,) = {position - start for position in prefilter.positions(piece)}
            assert 0 <= found < len(value)


def test_what_the_traffic_is_full_of_is_not_looked_for() -> None:
    query = 'event.category:process and process.name:("cmd.exe" or "net.exe")'
    prefilter = Prefilter.from_ruleset(compile_rules(query))
    library = b'{"event":{"category":"library"},"process":{"name":"cmd.exe"}}'
    process = b'{"event":{"category":"process"},"process":{"name":"other.exe"}}'

    prefilter.positions(library * 10_000)
    assert {"process"} == {needle.text for needle in prefilter.anchors}
    assert [] == prefilter.positions(library * 100)

    for _ in range(10):
        prefilter.positions(process * 20_000)
    assert {"cmd.exe", "net.exe"} == {needle.text for needle in prefilter.anchors}
    assert [] == prefilter.positions(process * 100)
