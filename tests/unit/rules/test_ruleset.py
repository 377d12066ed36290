from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kql import FieldTable
from pipeline.rules import NewTerms, RuleSet, RuleType, Severity
from tests.rules import new_terms_rule

FIELDS = FieldTable.builtin()
RULE = new_terms_rule(
    rule_id="r",
    query="host.os.type:windows",
    new_terms=NewTerms(("host.id", "user.id"), 604_800_000, "now-7d"),
)
QUERY = replace(RULE, type=RuleType.QUERY, new_terms=None)


def compile_all(*rules, fields=FIELDS):
    return RuleSet.compile(rules, fields)


def compile_one(rule, fields=FIELDS):
    ruleset, issues = compile_all(rule, fields=fields)
    assert issues == ()
    return ruleset.rules[0]


def ids(compiled):
    return [each.rule.rule_id for each in compiled]


def test_new_terms_and_query_rules_run():
    ruleset, issues = compile_all(RULE, replace(QUERY, rule_id="q"))

    assert issues == ()
    assert ids(ruleset.runnable) == ids(ruleset.rules) == ["r", "q"]
    assert ruleset.skipped == ()


@pytest.mark.parametrize("kind", [RuleType.THRESHOLD, RuleType.THREAT_MATCH])
def test_a_rule_judged_on_its_query_alone_is_not_run(kind):
    ruleset, issues = compile_all(replace(QUERY, type=kind))

    assert issues == ()
    assert (ids(ruleset.rules), ids(ruleset.runnable)) == (["r"], [])
    ((_, reason),) = ruleset.skipped
    assert "judges the query alone" in reason


def test_a_data_view_takes_the_place_of_the_index_patterns():
    by_index = compile_one(replace(RULE, index=("logs-endpoint.events.*",)))
    by_view = compile_one(
        replace(RULE, index=("logs-endpoint.events.*",), extra={"data_view_id": "mine"})
    )
    by_no_view = compile_one(
        replace(RULE, index=("logs-endpoint.events.*",), extra={"data_view_id": ""})
    )

    name = "logs-system.security-default"
    assert (
        by_index.includes_index(name),
        by_view.includes_index(name),
        by_no_view.includes_index(name),
    ) == (
        False,
        True,
        False,
    )


def test_a_disabled_rule_is_judged_and_not_run():
    ruleset, _ = compile_all(replace(RULE, enabled=False))

    assert (ids(ruleset.rules), ids(ruleset.runnable)) == (["r"], [])
    assert [reason for _, reason in ruleset.skipped] == ["is not enabled (enabled = false)"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"type": RuleType.EQL, "language": "eql"}, "EQL"),
        ({"type": RuleType.ESQL, "language": "esql"}, "ES|QL"),
        ({"type": RuleType.MACHINE_LEARNING, "query": None}, "machine learning"),
        ({"type": RuleType.SAVED_QUERY, "query": None}, "Kibana"),
        ({"language": "lucene", "query": "host.name:/web.*/"}, "Lucene"),
    ],
)
def test_a_rule_in_another_language_is_skipped_with_the_reason(changes, word):
    ruleset, issues = compile_all(replace(QUERY, **changes))

    assert (ruleset.rules, issues) == ((), ())
    ((_, reason),) = ruleset.skipped
    assert word in reason


def test_a_rule_that_does_not_compile_hides_none_of_the_others():
    broken = [
        replace(RULE, rule_id="syntax", query="host.id:("),
        replace(RULE, rule_id="type", query="process.pid:many"),
        replace(RULE, rule_id="filter", filters=({"query": {"fuzzy": {}}},)),
        replace(RULE, rule_id="text", new_terms=NewTerms(("message",), 1, "now-1s")),
    ]

    ruleset, issues = compile_all(*broken, RULE)

    assert ids(ruleset.rules) == ["r"]
    assert [(issue.rule_id, issue.code) for issue in issues] == [
        ("syntax", "query_syntax"),
        ("type", "query_type"),
        ("filter", "unsupported_filter"),
        ("text", "new_terms_type"),
    ]


def test_an_unmapped_new_terms_field_leaves_the_rule_to_match_alone():
    rule = replace(RULE, new_terms=NewTerms(("host.idd",), 1, "now-1s"))

    ruleset, (issue,) = compile_all(rule)

    assert (issue.code, issue.severity) == ("new_terms_unmapped", "warning")
    assert issue.message == (
        "field host.idd is not mapped: this rule can never alert; add its type with rules.fields"
    )
    assert issue.hint == "did you mean host.id?"
    assert (ids(ruleset.rules), ids(ruleset.runnable)) == (["r"], [])
    assert ruleset.skipped == ((rule, issue.message),)
    assert list(ruleset.rules[0].tuples({"host": {"idd": "x"}})) == []


def test_a_type_for_the_field_makes_the_rule_run():
    rule = replace(RULE, new_terms=NewTerms(("acme.user",), 1, "now-1s"))

    ruleset, issues = compile_all(rule, fields=FIELDS.extend({"acme.user": "keyword"}))

    assert issues == ()
    assert ids(ruleset.runnable) == ["r"]


def test_an_unmapped_field_in_the_query_is_a_warning_with_a_suggestion():
    ruleset, (issue,) = compile_all(
        replace(RULE, query="host.os.type:windows and not host.os.typ:x")
    )

    assert (issue.code, issue.severity) == ("unmapped_field", "warning")
    assert issue.hint == "did you mean host.os.type?"
    assert ids(ruleset.runnable) == ["r"]


def test_objects_multi_fields_and_wildcard_names_are_mapped():
    query = "host.os.type:windows and process:* and process.name.caseless:cmd.exe and host.os.*:x"

    assert compile_one(replace(RULE, query=query)).rule.query == query


def test_a_rule_without_a_usable_text_says_what_that_costs():
    ruleset, (issue,) = compile_all(replace(RULE, query="host.id:*"))

    assert (issue.code, issue.severity) == ("no_literal", "info")
    assert ruleset.runnable[0].clauses == ()


@pytest.mark.parametrize("clause", ["powershell", '(process.name:x or "power shell")'])
def test_a_rule_that_looks_in_every_field_says_what_that_costs(clause):
    _, (issue,) = compile_all(replace(RULE, query=f"host.os.type:windows and {clause}"))

    assert (issue.code, issue.severity) == ("reads_any_field", "info")


def test_a_rule_that_is_not_run_costs_nothing_and_says_nothing():
    _, issues = compile_all(replace(RULE, query="host.id:* or powershell", enabled=False))

    assert issues == ()


def test_the_matcher_asks_the_query_and_the_filters():
    negate = {"meta": {"negate": True}, "query": {"match_phrase": {"user.name": "root"}}}
    compiled = compile_one(replace(RULE, filters=(negate,)))

    assert compiled.matcher({"host": {"os": {"type": "windows"}}})
    assert not compiled.matcher({"host": {"os": {"type": "windows"}}, "user": {"name": "root"}})
    assert not compiled.matcher({"user": {"name": "x"}})


def test_terms_come_as_indexed_in_the_order_of_the_fields():
    new_terms = NewTerms(("process.name.caseless", "source.ip", "process.pid"), 1, "now-1s")
    compiled = compile_one(replace(RULE, new_terms=new_terms))
    event = {
        "process": {"name": ["CMD.exe", "cmd.EXE"], "pid": 4.0},
        "source.ip": ["::ffff:10.0.0.1", "10.0.0.2"],
    }

    assert list(compiled.tuples(event)) == [("cmd.exe", "10.0.0.1", 4), ("cmd.exe", "10.0.0.2", 4)]


def test_a_rule_set_gives_a_rule_by_its_id():
    ruleset, _ = compile_all(RULE)

    assert ruleset.get("r") is ruleset.rules[0]
    assert ruleset.get("x") is None
    assert len(ruleset) == 1
    assert repr(ruleset) == f"RuleSet(1 run, 0 skipped, {ruleset.digest[:12]})"


def digest(*rules, fields=FIELDS):
    return compile_all(*rules, fields=fields)[0].digest


def test_the_digest_does_not_depend_on_order_prose_or_layout():
    other = replace(QUERY, rule_id="q")
    same = replace(
        RULE, name="Another name", note="n", tags=("t",), query="  host.os.type : windows "
    )

    assert digest(RULE, other) == digest(other, same)
    assert len(digest()) == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"rule_id": "s"},
        {"version": 2},
        {"query": "host.os.type:linux"},
        {"filters": ({"query": {"exists": {"field": "host.id"}}},)},
        {"new_terms": NewTerms(("host.id",), 604_800_000, "now-7d")},
        {"new_terms": NewTerms(("host.id", "user.id"), 604_800_001, "now-7d")},
        {"index": ("logs-*",)},
        {"interval_ms": 1},
        {"max_signals": 1},
        {"timestamp_override": "event.ingested"},
        {"timestamp_override_fallback_disabled": True},
        {"enabled": False},
        {"severity": Severity.HIGH},
        {"risk_score": 2},
    ],
)
def test_the_digest_depends_on_what_decides(changes):
    assert digest(RULE) != digest(replace(RULE, **changes))


def test_the_digest_depends_on_whether_the_index_narrows_the_rule():
    narrowed = replace(RULE, index=("logs-*",))

    assert digest(narrowed) != digest(replace(narrowed, extra={"data_view_id": "mine"}))


def test_the_digest_depends_on_the_types_of_the_fields():
    assert digest(RULE) != digest(RULE, fields=FIELDS.extend({"host.os.type": "wildcard"}))


def history(**changes):
    return compile_one(replace(RULE, **changes)).history_id


def test_a_history_is_named_by_sixteen_hex_digits():
    assert len(history()) == 16
    int(history(), 16)


def test_the_names_of_histories_stay_over_an_upgrade():
    """Else every rule would begin a new history, and everything would be new."""
    query = r"""
        host.os.type:windows and not (process.name:("a b" or c* or d\:e) or process.pid >= 3)
        and @timestamp < "2026-03-01" and dll.path:*\\Temp\\* and process.args:*
    """
    filters = ({"meta": {"negate": True}, "query": {"term": {"user.name": {"value": "ann"}}}},)

    assert history() == "5f09866a24a17734"
    assert (
        history(query=query, filters=filters, timestamp_override="event.ingested")
        == "4e900bd9983973cb"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"rule_id": "s"},
        {"query": "host.os.type:linux"},
        {"filters": ({"query": {"exists": {"field": "host.id"}}},)},
        {"new_terms": NewTerms(("user.id", "host.id"), 604_800_000, "now-7d")},
        {"timestamp_override": "event.ingested"},
    ],
)
def test_another_question_is_another_history(changes):
    assert history() != history(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"name": "x"},
        {"query": "(host.os.type:windows)"},
        {"new_terms": NewTerms(("host.id", "user.id"), 1_000, "now-1s")},
        {"max_signals": 5},
        {"filters": ({"meta": {"disabled": True}, "query": {"exists": {"field": "host.id"}}},)},
    ],
)
def test_the_same_question_keeps_its_history(changes):
    assert history() == history(**changes)


@given(st.text(max_size=40) | st.text(alphabet='ab:."*(){}<> \\', max_size=20))
def test_no_query_makes_the_compiler_raise(query):
    ruleset, issues = compile_all(replace(RULE, query=query), replace(RULE, rule_id="other"))

    assert ruleset.get("other") is not None
    assert (ruleset.get("r") is None) == any(issue.severity == "error" for issue in issues)
