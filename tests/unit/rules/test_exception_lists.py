"""Exception lists in the layout of Elastic's tools mean here what they mean in Kibana."""

from __future__ import annotations

import copy
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kql import FieldTable
from pipeline.rules import RuleSet, RuleTest, load_rules, run_tests
from pipeline.rules.keys import (
    ENTRY_TYPES,
    EXCEPTION_ENTRY_KEYS,
    EXCEPTION_ITEM_KEYS,
    EXCEPTION_KEYS,
    EXCEPTION_LIST_KEYS,
    EXCEPTION_METADATA_KEYS,
)
from pipeline.rules.model import ExceptionItem
from pipeline.rules.parse_exceptions import holds_exceptions, parse_exceptions
from pipeline.rules.reads import paths_read
from tests.rules import new_terms_rule, rule_text

FIELDS = FieldTable.builtin()
FILE = """
[metadata]
creation_date = "2026/01/01"
list_name = "Deployment"
rule_ids = ["rule", "other"]
rule_names = ["New process", "Other"]
updated_date = "2026/01/02"

[[exceptions]]
[exceptions.container]
description = "Programs that deploy software."
list_id = "b2f4"
name = "Deployment"
namespace_type = "single"
tags = []
type = "detection"

[[exceptions.items]]
comments = []
description = "It installs something every night."
item_id = "c0de"
list_id = "b2f4"
name = "the deployment agent"
namespace_type = "single"
tags = []
type = "simple"

[[exceptions.items.entries]]
field = "process.name"
operator = "included"
type = "match"
value = "deploy.exe"

[[exceptions.items.entries]]
field = "user.id"
operator = "included"
type = "match"
value = "S-1-5-18"
"""
DLL = {"dll": {"name": "engine.dll"}}


def entry(kind, value=None, field="process.name", operator="included"):
    written = {"field": field, "type": kind, "operator": operator}
    return written if value is None else written | {"value": value}


def signed(*entries, operator="included"):
    """An entry about one signature of a library."""
    inner = list(entries or [entry("exists", field="status")])
    return entry("nested", None, "dll.Ext.code_signature", operator) | {"entries": inner}


def document(*entries, **item):
    items = [{"name": "x", "entries": list(entries), **item}]
    return {"metadata": {"rule_ids": ["rule"]}, "exceptions": [{"items": items}]}


def compiled(written):
    items, issues = parse_exceptions(written)
    assert issues == ()
    rule = new_terms_rule(exceptions=items)
    ruleset, issues = RuleSet.compile([rule], FIELDS)
    (only,) = ruleset.runnable
    return only, issues


def matches(written, **process):
    rule, _ = compiled(written)
    return rule.matcher({**DLL, "process": process})


def load(path: Path, *rule_ids: str):
    folder = path.parent
    for rule_id in rule_ids:
        (folder / f"{rule_id}.toml").write_text(rule_text(rule_id, "dll.name:engine.dll"))
    loaded = load_rules([folder])
    ruleset, issues = RuleSet.compile(loaded.rules, FIELDS)
    return ruleset, (*loaded.issues, *issues)


def test_a_list_that_elastics_tools_wrote_is_read_as_it_is(tmp_path):
    path = tmp_path / "b2f4_exceptions.toml"
    path.write_text(FILE)

    ruleset, issues = load(path, "rule", "other", "third")

    assert issues == ()
    event = {**DLL, "process": {"name": "deploy.exe"}, "user": {"id": "S-1-5-18"}}
    somebody = {**event, "user": {"id": "S-1-5-21"}}
    found = {each.rule.rule_id: each for each in ruleset.runnable}
    assert [found[each].matcher(event) for each in ("rule", "other", "third")] == [
        False,
        False,
        True,
    ]
    assert found["rule"].matcher(somebody)


@pytest.mark.parametrize(
    ("lists", "missing"),
    [
        ("[{ list_id = 'b2f4' }]", []),
        ("[]", []),
        ("[{ list_id = 'b2f4' }, { list_id = 'aaaa' }]", ["the list 'aaaa' is in no file"]),
        ("[{ id = 'b2f4' }, 7]", ["the list {'id': 'b2f4'} is", "the list 7 is"]),
    ],
)
def test_a_list_that_a_rule_names_and_no_file_holds_is_told(tmp_path, lists, missing):
    (tmp_path / "e.toml").write_text(FILE.replace('"rule", "other"', '"rule"'))
    text = rule_text("rule", "dll.name:engine.dll")
    (tmp_path / "r.toml").write_text(text.replace("query =", f"exceptions_list = {lists}\nquery ="))

    issues = load_rules([tmp_path]).issues

    assert [(each.code, each.severity, each.rule_id) for each in issues] == [
        ("not_applied", "warning", "rule") for _ in missing
    ]
    assert all(text in each.message for text, each in zip(missing, issues, strict=True))


@pytest.mark.parametrize(
    ("written", "covered", "other"),
    [
        (entry("match", "a.exe"), {"name": "a.exe"}, {"name": "A.exe"}),
        (entry("match_any", ["a.exe", "b.exe"]), {"name": "b.exe"}, {"name": "c.exe"}),
        (entry("exists"), {"name": "a.exe"}, {"executable": "a.exe"}),
        (entry("wildcard", "?:\\\\*"), {"name": "C:\\a"}, {"name": "CD:\\a"}),
        (entry("match", "1", field="process.pid"), {"pid": 1}, {"pid": 2}),
    ],
    ids=lambda value: value.get("type") if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("operator", ["included", "excluded"])
def test_each_type_of_entry_compares_as_in_kibana(written, covered, other, operator):
    written = {**written, "operator": operator}

    found = [matches(document(written), **covered), matches(document(written), **other)]

    assert found == ([False, True] if operator == "included" else [True, False])


def test_one_object_has_to_satisfy_all_that_is_nested():
    written = document(
        signed(
            entry("match", "A", "subject_name"),
            entry("match_any", ["trusted", "errorTrust"], "status"),
            entry("exists", None, "thumbprint_sha256", "excluded"),
        )
    )
    rule, issues = compiled(written)

    def held_back(*signatures):
        return not rule.matcher({"dll": {**DLL["dll"], "Ext": {"code_signature": [*signatures]}}})

    assert issues == ()
    good, bad = {"subject_name": "A", "status": "trusted"}, {"subject_name": "A", "status": "x"}
    assert held_back(bad, good)
    assert not held_back(bad, {"subject_name": "B", "status": "trusted"})
    assert not held_back(good | {"thumbprint_sha256": "00"})
    assert not held_back()
    assert "dll.Ext.code_signature" in paths_read(rule)


@pytest.mark.parametrize("field", ["dll.Ext", "process.name", "no.such"])
def test_a_field_without_nested_objects_leaves_out_the_item(field):
    rule, issues = compiled(document(signed() | {"field": field}))

    assert "unsupported_exception" in [issue.code for issue in issues]
    assert rule.rule.exceptions == ()


def test_an_operator_that_is_not_written_includes():
    written = entry("match", "a.exe")
    del written["operator"]

    assert not matches(document(written), name="a.exe")


def test_all_entries_of_an_item_have_to_be_true_and_each_item_counts_for_itself():
    both = document(entry("match", "a"), entry("match", "b", "process.executable"))
    either = copy.deepcopy(both)
    either["exceptions"] += document(entry("match", "c"))["exceptions"]

    assert not matches(both, name="a", executable="b")
    assert matches(both, name="a", executable="z")
    assert not matches(either, name="a", executable="b")
    assert not matches(either, name="c", executable="z")
    assert matches(either, name="z", executable="b")


def test_a_rule_reads_what_its_lists_read_and_keeps_its_history():
    without = RuleSet.compile([new_terms_rule()], FIELDS)[0]
    rule, _ = compiled(document(entry("match", "a", "user.name")))

    assert paths_read(rule) >= {"dll.name", "process.executable", "user.name"}
    assert rule.history_id == without.runnable[0].history_id
    assert RuleSet([rule]).digest != without.digest


def test_lists_and_queries_and_filters_hold_back_together():
    items, _ = parse_exceptions(document(entry("match", "a")))
    query = ExceptionItem("q", ("rule",), "process.name:b")
    filters = ({"meta": {"negate": True}, "query": {"term": {"process.name": "c"}}},)
    rule = new_terms_rule(exceptions=(*items, query), filters=filters)
    matcher = RuleSet.compile([rule], FIELDS)[0].runnable[0].matcher

    found = [matcher({**DLL, "process": {"name": name}}) for name in "abcd"]

    assert found == [False, False, False, True]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"entries": [entry("nested")]}, "bad_value"),
        ({"entries": [signed(entry("match", ["a"], "status"))]}, "bad_value"),
        ({"entries": [signed(entry("wildcard", "a*", "status"))]}, "bad_value"),
        ({"entries": [signed(entry("exists")) | {"value": "a"}]}, "bad_value"),
        ({"entries": [signed(operator="excluded")]}, "unsupported_exception"),
        ({"entries": [entry("list")]}, "unsupported_exception"),
        ({"entries": [entry("list") | {"list_vals": {"id": "a"}}]}, "unsupported_exception"),
        ({"expire_time": "2027-01-01T00:00:00Z"}, "unsupported_exception"),
        ({"expire_time": datetime(2027, 1, 1, tzinfo=UTC)}, "unsupported_exception"),
        ({"expire_time": date(2027, 1, 1)}, "unsupported_exception"),
        ({"os_types": ["windows"]}, "unsupported_exception"),
        ({"entries": [entry("match", ["a"])]}, "bad_value"),
        ({"entries": [entry("match")]}, "bad_value"),
        ({"entries": [entry("match_any", "a")]}, "bad_value"),
        ({"entries": [entry("match_any", [])]}, "bad_value"),
        ({"entries": [entry("match_any", [1])]}, "bad_value"),
        ({"entries": [entry("exists", "a")]}, "bad_value"),
        ({"entries": [entry("wildcard", ["a"])]}, "bad_value"),
        ({"entries": [entry("regexp", "a")]}, "bad_value"),
        ({"entries": []}, "bad_value"),
        ({"name": ""}, "bad_value"),
        ({"entry": []}, "unknown_key"),
    ],
)
def test_an_item_that_cannot_be_evaluated_is_left_out_and_told(changes, code):
    good = {"name": "good", "entries": [entry("match", "a")]}
    written = document(entry("match", "b"), **changes)
    written["exceptions"][0]["items"].append(good)

    items, issues = parse_exceptions(written)

    assert [(issue.code, issue.severity) for issue in issues] == [(code, "error")]
    assert [item.name for item in items] == ["good"]


def test_what_a_fields_type_refuses_leaves_out_the_item_and_names_its_line(tmp_path):
    path = tmp_path / "e.toml"
    path.write_text(FILE.replace('"user.id"', '"process.pid"'))

    ruleset, issues = load(path, "rule", "other")

    found = [(each.code, each.severity, each.path.name, each.line) for each in issues]
    assert found == [("unsupported_exception", "error", "e.toml", 34)]
    assert ruleset.runnable[0].matcher({**DLL, "process": {"name": "deploy.exe"}})


def test_a_field_without_a_type_is_told():
    _, issues = compiled(document(entry("match", "a", "process.nam")))

    assert [(issue.code, issue.severity, issue.hint) for issue in issues] == [
        ("unmapped_field", "warning", "did you mean process.name?")
    ]


@pytest.mark.parametrize(
    "written",
    [
        [entry("match", "a", "user.nam", "excluded")],
        [entry("match", "a", "user.nam"), entry("exists", None, "user.nam", "excluded")],
        [entry("match", "b"), entry("match_any", ["a", "b"], "user.nam", "excluded")],
        [entry("match", "b"), entry("wildcard", "a*", "user.nam", "excluded")],
    ],
)
def test_a_negated_field_without_a_type_leaves_out_the_item(written):
    rule, issues = compiled(document(*written))

    assert [(issue.code, issue.severity) for issue in issues] == [("unmapped_field", "error")]
    assert rule.rule.exceptions == ()
    assert rule.matcher({**DLL, "process": {"name": "b"}})


def test_without_the_ids_of_rules_a_list_covers_nothing_and_is_told():
    written = document(entry("match", "a"))
    del written["metadata"]["rule_ids"]

    items, issues = parse_exceptions(written)

    assert [issue.code for issue in issues] == ["missing_key"]
    assert [item.rule_ids for item in items] == [()]


def test_a_test_of_the_rule_names_the_item_that_covers_its_event():
    items, _ = parse_exceptions(document(entry("match", "a")))
    test = RuleTest("t", ({**DLL, "process": {"name": "a"}},), ("alert",), 1)
    rule = new_terms_rule(exceptions=items, tests=(test,))
    (only,) = RuleSet.compile([rule], FIELDS)[0].runnable

    (result,) = run_tests(only)

    assert result.failures == ("event 1: expected alert, got no_match: excepted: x",)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(ENTRY_TYPES) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def tables_of(keys, **kinds):
    """Tables with some of these keys and wrong ones, and values of all kinds."""
    fixed = {name: kinds.get(name, values) for name in keys}
    return st.fixed_dictionaries({}, optional=fixed) | st.dictionaries(st.text(max_size=8), values)


entries = st.lists(tables_of(EXCEPTION_ENTRY_KEYS), max_size=2)
items = st.lists(tables_of(EXCEPTION_ITEM_KEYS, entries=entries), max_size=2)
files = st.fixed_dictionaries(
    {
        "exceptions": values
        | st.lists(tables_of(EXCEPTION_KEYS) | tables_of(EXCEPTION_LIST_KEYS, items=items))
    },
    optional={"metadata": values | tables_of(EXCEPTION_METADATA_KEYS)},
)


@given(files)
def test_no_mapping_makes_the_reader_or_the_compiler_raise(written):
    assert holds_exceptions(written)

    found, _ = parse_exceptions(written)

    ruleset, _ = RuleSet.compile([new_terms_rule(exceptions=found)], FIELDS)
    assert len(ruleset.runnable) == 1


@given(st.lists(tables_of(EXCEPTION_KEYS), max_size=3))
def test_each_exception_that_is_left_out_is_told(blocks):
    found, issues = parse_exceptions({"exceptions": blocks})

    assert (len(found) == len(blocks)) == (issues == ())
