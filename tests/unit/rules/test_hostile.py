"""Rules made to hurt: what they cost is bounded, or they are refused with a reason. Work is counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pipeline.engine.match import MAX_TUPLES, MatchStage
from pipeline.kql import FieldTable, compile_query, parse, required_clauses
from pipeline.kql.limits import MAX_CLAUSES, MAX_DEPTH, MAX_PATTERNS
from pipeline.kql.values.folding import lower, words
from pipeline.record import Position, Record
from pipeline.rules import Issue, NewTerms, RuleSet
from pipeline.rules.filter_clauses import UnsupportedFilterError
from pipeline.rules.filters import compile_filters
from pipeline.rules.wildcard import WildcardRefused, compile_wildcard
from tests.calls import calls_of
from tests.events import encode, library_event
from tests.rules import new_terms_rule

TABLE = FieldTable.builtin()


def compiled(query: str) -> tuple[RuleSet, tuple[Issue, ...]]:
    rule = new_terms_rule(
        query=query,
        new_terms=NewTerms(("user.id", "host.ip", "process.executable"), 604_800_000, "now-7d"),
    )
    return RuleSet.compile([rule], TABLE)


def issues_of(query: str) -> list[str]:
    return [issue.code for issue in compiled(query)[1]]


@pytest.mark.parametrize(
    "query",
    [
        "(" * (MAX_DEPTH + 1) + "a:b" + ")" * (MAX_DEPTH + 1),
        "not (" * 100_000 + "a:b" + ")" * 100_000,
        "a:" + "(" * 100_000,
        "a:{" * 100_000,
    ],
)
def test_a_query_that_nests_too_deep_is_refused_at_its_hundredth_level(query: str):
    def attempt() -> None:
        with pytest.raises(Exception, match="nested more than"):
            parse(query)

    assert calls_of(attempt) < 10_000


def test_ten_thousand_alternatives_cost_a_fixed_number_of_calls_each():
    def load(count: int) -> int:
        query = " or ".join(f"process.executable:name-{n}" for n in range(count))
        return calls_of(lambda: (required_clauses(parse(query), TABLE), compile_query(query)))

    assert load(10_000) < 11 * load(1_000)


def test_ten_thousand_alternatives_are_one_look_up_for_an_event():
    match = compile_query(" or ".join(f"process.name:name-{n}" for n in range(10_000)))

    assert calls_of(lambda: match({"process": {"name": "other"}})) < 20


@pytest.mark.parametrize("pattern", ["*a*a*a*a*b", "*".join(["a"] * 5_000) + "*b", "*ab*ab*ab*c*"])
def test_stars_cost_one_search_each_however_long_the_value_is(pattern: str):
    match = compile_query(f"process.command_line:{pattern}")
    stars = pattern.count("*")

    calls = {
        size: calls_of(lambda size=size: match({"process": {"command_line": "a" * size}}))
        for size in (1_000, 1_000_000)
    }

    assert max(calls.values()) < 2 * stars + 100


def test_patterns_on_one_field_are_limited_and_plain_values_are_not():
    patterns = [f"*name-{n}*" for n in range(MAX_PATTERNS)]
    values = [f"name-{n}" for n in range(MAX_CLAUSES - MAX_PATTERNS - 1)]

    def list_of(texts: list[str]) -> str:
        return f"process.name:({' or '.join(texts)}) and user.id:*name*"

    assert issues_of(list_of([*patterns, *values])) == []
    assert "query_limit" in issues_of(list_of([*patterns, "*one-more*"]))


def test_a_text_is_split_into_words_once_for_all_clauses():
    text = "some words " * 1_000
    match = compile_query(" and ".join(f"not message:w{n}" for n in range(500)))
    words.cache_clear()

    assert match({"message": text})
    assert words.cache_info().misses <= 4


def test_a_long_value_is_not_folded_to_be_compared_with_short_ones():
    match = compile_query("process.name.caseless:(one or two)")
    once = calls_of(lambda: match({"process": {"name": "\u20ac"}}))

    assert calls_of(lambda: match({"process": {"name": "\u20ac" * 300_000}})) <= once
    assert calls_of(lambda: lower("\u20ac\u0130\u03a3" * 100_000)) < 10**6


def record(event: Mapping[str, Any]) -> Record:
    return Record(Position("t", 0, 1), None, encode(dict(event)), (), 0, 0)


def test_three_arrays_make_no_more_tuples_than_the_limit():
    many = [f"10.{n >> 8}.{n & 255}.1" for n in range(2_000)]
    event = library_event()
    event["user"]["id"] = event["host"]["ip"] = event["process"]["executable"] = many
    ruleset, _ = compiled("dll.name:*Automation*")

    outcome = MatchStage(ruleset).process(record(event))

    assert 0 < len(outcome.observations) <= MAX_TUPLES
    assert [failure.code for failure in outcome.failures] == ["too_many_tuples"]


def filters_of(*clauses: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"meta": {}, "query": clause} for clause in clauses]


def test_many_terms_of_a_filter_are_one_look_up():
    match = compile_filters(
        filters_of({"terms": {"process.name": [f"n{n}" for n in range(10_000)]}}), TABLE
    )

    assert match is not None
    assert match({"process": {"name": "n9999"}})
    assert calls_of(lambda: match({"process": {"name": "other"}})) < 20


def nested_bool(depth: int) -> dict[str, Any]:
    clause: dict[str, Any] = {"exists": {"field": "user.id"}}
    for _ in range(depth):
        clause = {"bool": {"must": [clause]}}
    return clause


def too_large() -> Iterator[dict[str, Any]]:
    yield {"terms": {"process.name": ["x"] * (MAX_CLAUSES + 1)}}
    yield {
        "bool": {
            "should": [{"wildcard": {"process.name": f"*{n}*"}} for n in range(MAX_PATTERNS + 1)]
        }
    }
    yield {"wildcard": {"process.command_line": "*" + "?" * 500 + "*"}}
    yield nested_bool(500)


@pytest.mark.parametrize(
    "clause", list(too_large()), ids=["values", "patterns", "pattern", "depth"]
)
def test_filters_beyond_the_limits_are_refused(clause: dict[str, Any]):
    with pytest.raises(UnsupportedFilterError):
        compile_filters(filters_of(clause), TABLE)


def test_a_question_mark_is_no_matter_at_the_ends_of_a_pattern():
    assert compile_wildcard("?" * 500 + "*" + "?" * 500)("x" * 1_000)
    assert compile_wildcard("*" + "?" * 100 + "*")("x" * 100)
    with pytest.raises(WildcardRefused):
        compile_wildcard("*" + "?" * 101 + "*")
