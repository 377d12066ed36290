from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kql import FieldTable
from pipeline.rules.compile import compile_rule
from pipeline.rules.draft import draft_of
from pipeline.rules.keys import FILE_KEYS, RULE_KEYS, TEST_KEYS
from pipeline.rules.model import NewTerms, RuleType, Severity, Technique, Threat
from pipeline.rules.parse import parse_rule


def document(**changes):
    rule = {
        "rule_id": "11111111-2222-3333-4444-555555555555",
        "name": "A rule",
        "description": "What it finds.",
        "type": "new_terms",
        "severity": "low",
        "risk_score": 21,
        "query": "host.id:*",
        "new_terms": {
            "field": "new_terms_fields",
            "value": ["host.id"],
            "history_window_start": [{"field": "history_window_start", "value": "now-7d"}],
        },
    }
    rule.update(changes)
    return {"rule": {name: value for name, value in rule.items() if value is not None}}


def codes(found):
    rule, issues = found
    assert (rule is None) == any(issue.severity == "error" for issue in issues)
    return [issue.code for issue in issues]


def test_a_minimal_rule_takes_the_defaults_of_kibana():
    rule, issues = parse_rule(document())

    assert issues == ()
    assert rule is not None
    assert rule.type is RuleType.NEW_TERMS
    assert rule.severity is Severity.LOW
    assert rule.new_terms == NewTerms(("host.id",), 604_800_000, "now-7d")
    assert (rule.interval_ms, rule.from_ms, rule.max_signals) == (300_000, 360_000, 100)
    assert (rule.version, rule.language, rule.enabled) == (1, "kuery", True)
    assert rule.index == ()


def test_the_flat_spelling_of_a_kibana_export_means_the_same():
    nested, _ = parse_rule(document())
    flat, issues = parse_rule(
        document(new_terms=None, new_terms_fields=["host.id"], history_window_start="now-7d")
    )

    assert issues == ()
    assert flat == nested


def test_both_spellings_at_once_are_one_too_many():
    assert codes(parse_rule(document(new_terms_fields=["host.id"]))) == ["bad_value"]


@pytest.mark.parametrize(
    "missing", ["rule_id", "name", "description", "type", "severity", "risk_score"]
)
def test_what_every_rule_has_is_asked_for(missing):
    _, (issue,) = parse_rule(document(**{missing: None}))

    assert issue.code == "missing_key"
    assert missing in issue.message


@pytest.mark.parametrize("missing", ["query", "new_terms"])
def test_what_a_new_terms_rule_has_is_asked_for(missing):
    assert codes(parse_rule(document(**{missing: None}))) == ["missing_key"]


def test_an_unknown_key_is_an_error_that_names_its_neighbour():
    _, (issue,) = parse_rule(document(max_signal=5))

    assert issue.code == "unknown_key"
    assert issue.hint == "did you mean max_signals?"


def test_an_unknown_table_is_an_error_too():
    _, (issue,) = parse_rule({**document(), "test": []})

    assert issue.hint == "did you mean tests?"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": ""}, "bad_value"),
        ({"name": 1}, "wrong_type"),
        ({"rule_id": ""}, "bad_value"),
        ({"rule_id": "a b"}, "bad_value"),
        ({"rule_id": "x" * 129}, "bad_value"),
        ({"type": "sequence"}, "bad_value"),
        ({"severity": "High"}, "bad_value"),
        ({"risk_score": 101}, "bad_value"),
        ({"risk_score": -1}, "bad_value"),
        ({"risk_score": 47.0}, "wrong_type"),
        ({"risk_score": True}, "wrong_type"),
        ({"max_signals": 0}, "bad_value"),
        ({"version": 0}, "bad_value"),
        ({"interval": "5 minutes"}, "bad_value"),
        ({"interval": "0m"}, "bad_value"),
        ({"from": "2024-01-01"}, "bad_value"),
        ({"enabled": "yes"}, "wrong_type"),
        ({"index": "logs-*"}, "wrong_type"),
        ({"index": ["logs-*", 1]}, "wrong_type"),
        ({"index": [""]}, "bad_value"),
        ({"timestamp_override": "event.*"}, "bad_value"),
        ({"language": "eql"}, "bad_value"),
        ({"language": "kql"}, "bad_value"),
        ({"building_block_type": "x"}, "bad_value"),
        ({"threat": [{"framework": "MITRE ATT&CK"}]}, "missing_key"),
        ({"filters": [{"queries": {}}]}, "unknown_key"),
        ({"threshold": 5}, "wrong_type"),
    ],
)
def test_a_value_out_of_form_is_an_error(changes, code):
    assert codes(parse_rule(document(**changes))) == [code]


@pytest.mark.parametrize("value", [0, 100])
def test_the_ends_of_the_risk_scale_belong_to_it(value):
    rule, _ = parse_rule(document(risk_score=value))

    assert rule is not None
    assert rule.risk_score == value


def new_terms(fields, start="now-7d", **changes):
    return {
        "field": "new_terms_fields",
        "value": fields,
        "history_window_start": [{"field": "history_window_start", "value": start}],
        **changes,
    }


@pytest.mark.parametrize(
    "table",
    [
        new_terms([]),
        new_terms(["a", "b", "c", "d"]),
        new_terms(["a", "b", "a"]),
        new_terms(["a*"]),
        new_terms([""]),
        new_terms(["a"], start="now-1M"),
        new_terms(["a"], start="now-7d/d"),
        new_terms(["a"], start="2024-01-01"),
        new_terms(["a"], field="fields"),
        new_terms(["a"], history_window_start=[]),
    ],
)
def test_new_terms_out_of_form_is_an_error(table):
    assert codes(parse_rule(document(new_terms=table))) == ["bad_value"]


@pytest.mark.parametrize(("start", "searched"), [("now-9m", "now-9m"), ("now-5m", None)])
def test_the_history_has_to_begin_before_the_searched_interval(start, searched):
    found = parse_rule(document(new_terms=new_terms(["a"], start=start), **{"from": searched}))

    assert codes(found) == ["history_window"]


def test_a_rule_without_new_terms_has_no_use_for_them():
    assert codes(parse_rule(document(type="query"))) == ["bad_value"]
    assert codes(parse_rule(document(type="query", new_terms=None))) == []


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("eql", {"language": "eql"}),
        ("esql", {"language": "esql"}),
        ("eql", {}),
        (
            "machine_learning",
            {"query": None, "anomaly_threshold": 50, "machine_learning_job_id": ["j"]},
        ),
        ("saved_query", {"query": None, "saved_id": "x"}),
        ("threshold", {"threshold": {"field": ["host.id"], "value": 5}}),
        ("threat_match", {"threat_index": ["logs-ti_*"], "threat_query": "*:*"}),
    ],
)
def test_rules_of_other_types_load(kind, changes):
    rule, issues = parse_rule(document(type=kind, new_terms=None, **changes))

    assert issues == ()
    assert rule is not None
    assert rule.type == kind


def test_keys_that_are_only_kept_are_kept():
    rule, issues = parse_rule(
        {
            **document(to="now", timeline_id="t", meta={"a": 1}),
            "metadata": {"maturity": "production", "anything": ["else"]},
            "transform": {"osquery": [{"label": "l", "query": "q"}]},
        }
    )

    assert issues == ()
    assert rule is not None
    assert rule.metadata == {"maturity": "production", "anything": ["else"]}
    assert rule.extra == {
        "to": "now",
        "timeline_id": "t",
        "meta": {"a": 1},
        "transform": {"osquery": [{"label": "l", "query": "q"}]},
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"alert_suppression": {"group_by": ["host.id"]}},
        {"severity_mapping": [{"field": "a"}]},
        {"data_view_id": "security-solution-default"},
    ],
)
def test_a_key_that_would_change_the_alerts_and_is_not_applied_is_told(changes):
    rule, issues = parse_rule(document(**changes))

    assert rule is not None
    assert [(issue.code, issue.severity) for issue in issues] == [("not_applied", "warning")]


def test_such_a_key_without_content_changes_nothing_and_is_not_told():
    assert codes(parse_rule(document(alert_suppression={}))) == []


def test_threats_keep_their_techniques_and_sub_techniques():
    entry = {"id": "T1059", "name": "Interpreter", "reference": "https://x/"}
    sub = {"id": "T1059.001", "name": "PowerShell", "reference": "https://y/"}
    threat = {
        "framework": "MITRE ATT&CK",
        "tactic": {"id": "TA0002", "name": "Execution", "reference": "https://z/"},
        "technique": [{**entry, "subtechnique": [sub]}],
    }

    rule, issues = parse_rule(document(threat=[threat]))

    assert issues == ()
    assert rule is not None
    expected_sub = Technique("T1059.001", "PowerShell", "https://y/")
    technique = Technique("T1059", "Interpreter", "https://x/", (expected_sub,))
    assert rule.threat == (
        Threat("MITRE ATT&CK", "TA0002", "Execution", "https://z/", (technique,)),
    )


def test_all_that_is_wrong_is_told_at_once():
    found = parse_rule(document(name=1, severity="x", max_signal=2, query=None, risk_score=None))

    assert sorted(codes(found)) == [
        "bad_value",
        "missing_key",
        "missing_key",
        "unknown_key",
        "wrong_type",
    ]


def test_issues_carry_the_rule_id_once_it_is_known():
    _, (issue,) = parse_rule(document(name=1))

    assert issue.rule_id == "11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize("found", [{}, {"rule": 1}, {"rule": []}, {"metadata": {}}])
def test_a_file_without_a_rule_says_so(found):
    assert codes(parse_rule(found)) == ["no_rule"]


def with_tests(*blocks, **changes):
    return {**document(**changes), "tests": list(blocks)}


def test_an_event_is_a_table_or_json_and_lies_over_the_base():
    block = {
        "name": "n",
        "base": {"host": {"id": "h"}, "tags": ["a"]},
        "events": [{"host": {"name": "x"}}, '{"host.id": "g", "tags": []}'],
        "expect": ["alert", "known"],
    }

    rule, issues = parse_rule(with_tests(block))

    assert issues == ()
    assert rule is not None
    assert rule.tests[0].events == (
        {"host": {"id": "h", "name": "x"}, "tags": ["a"]},
        {"host": {"id": "h"}, "tags": [], "host.id": "g"},
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"event": []}, "unknown_key"),
        ({"name": None}, "missing_key"),
        ({"events": None}, "missing_key"),
        ({"expect": None}, "missing_key"),
        ({"expect": []}, "bad_value"),
        ({"expect": ["alert", "alert"]}, "bad_value"),
        ({"expect": ["match"]}, "bad_value"),
        ({"events": ["{"]}, "bad_value"),
        ({"events": ["[" * 100_000]}, "bad_value"),
        ({"events": ["[]"]}, "wrong_type"),
        ({"events": [1]}, "wrong_type"),
        ({"events": {}}, "wrong_type"),
        ({"events": [], "expect": []}, "bad_value"),
        ({"base": []}, "wrong_type"),
    ],
)
def test_a_test_out_of_form_is_an_error(changes, code):
    block = {"name": "n", "events": [{}], "expect": ["no_match"], **changes}
    block = {name: value for name, value in block.items() if value is not None}

    assert codes(parse_rule(with_tests(block))) == [code]


def test_the_dates_of_toml_become_the_text_of_json():
    document = tomllib.loads(
        "events = [{ a = 2024-01-01T00:00:00Z, b = 2024-01-01T00:00:00, c = [2024-01-01, 07:30:00] }]"
    )

    rule, _ = parse_rule(with_tests({"name": "n", "expect": ["alert"], **document}))

    assert rule is not None
    assert rule.tests[0].events == (
        {
            "a": "2024-01-01T00:00:00+00:00",
            "b": "2024-01-01T00:00:00+00:00",
            "c": ["2024-01-01", "07:30:00"],
        },
    )


def test_nothing_is_known_to_a_rule_without_history():
    block = {"name": "n", "events": [{}], "expect": ["known"]}

    assert codes(parse_rule(with_tests(block, type="query", new_terms=None))) == ["bad_value"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def tables_of(keys):
    return st.dictionaries(st.sampled_from(sorted(keys)) | st.text(max_size=8), json_values)


@given(
    st.fixed_dictionaries(
        {"rule": tables_of(RULE_KEYS).map(lambda changes: document(**changes)["rule"])},
        optional={"tests": st.lists(tables_of(TEST_KEYS), max_size=2)},
    )
    | tables_of(FILE_KEYS)
    | st.dictionaries(st.text(), json_values)
)
def test_no_mapping_makes_the_parser_raise_nor_what_is_compiled_of_a_draft(mapping):
    rule, issues = parse_rule(mapping)

    assert (rule is None) == any(issue.severity == "error" for issue in issues)
    draft = draft_of(mapping)
    assert draft is None or compile_rule(draft, FieldTable.builtin()) is not None
