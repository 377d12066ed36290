"""firstseen match: one verdict per line, no state."""

from __future__ import annotations

import json

from tests.events import encode, library_event
from tests.rules import BUILTIN_RULE, as_threshold_rule


def test_each_line_has_a_verdict_by_number(run, events):
    result = run("match", events)

    assert result.exit_code == 0
    assert result.stdout == "".join(
        f'{{"line":{line},"matches":[{matches}]}}\n'
        for line, matches in enumerate([f'"{BUILTIN_RULE}"'] * 3 + [""], 1)
    )


def test_a_line_that_is_no_event_says_why(run):
    bad = b'{"a":1}\n{bad\n\n[1]\n{"a":NaN}\n\xff\n{"a":1,"a":2}\n'
    lines = [json.loads(line) for line in run("match", "-", stdin=bad).stdout.splitlines()]

    assert lines == [
        {"line": 1, "matches": []},
        {"line": 2, "error": "invalid_json"},
        {"line": 3, "error": "empty"},
        {"line": 4, "error": "not_an_object"},
        {"line": 5, "error": "invalid_json"},
        {"line": 6, "error": "invalid_utf8"},
        {"line": 7, "error": "duplicate_key"},
    ]


def test_rule_ids_are_sorted_and_rules_of_all_files_are_asked(run, events, rule_file, tmp_path):
    other = tmp_path / "aaa.toml"
    other.write_text(rule_file.read_text().replace("ann-1", "aaa-1"))
    result = run("match", "--rules", rule_file, "--rules", other, events)

    assert json.loads(result.stdout.splitlines()[0]) == {"line": 1, "matches": ["aaa-1", "ann-1"]}


def test_a_rule_that_is_not_run_is_judged_on_its_query(run, events, tmp_path, rule_file):
    threshold = tmp_path / "threshold.toml"
    threshold.write_text(as_threshold_rule(rule_file.read_text()))
    result = run("match", "--rules", threshold, events)

    assert json.loads(result.stdout.splitlines()[0]) == {"line": 1, "matches": ["ann-1"]}


def test_index_patterns_count_only_when_asked_for(run, tmp_path):
    event = library_event()
    event["data_stream"]["dataset"] = "other"
    path = tmp_path / "other.ndjson"
    path.write_bytes(encode(event))

    verdicts = [
        json.loads(run("match", *flags, path).stdout)["matches"]
        for flags in ([], ["--respect-index"])
    ]
    assert verdicts == [[BUILTIN_RULE], []]


def test_field_types_may_be_added(run, events, rule_file, tmp_path):
    rule = tmp_path / "own.toml"
    rule.write_text(rule_file.read_text().replace("user.name:ann", "own.level >= 3"))
    types = tmp_path / "types.json"
    types.write_text('{"own.level": "long"}')
    event = b'{"own":{"level":4}}\n'

    without = run("match", "--rules", rule, "-", stdin=event)
    with_types = run("match", "--rules", rule, "--fields", types, "-", stdin=event)
    assert json.loads(without.stdout)["matches"] == []
    assert json.loads(with_types.stdout)["matches"] == ["ann-1"]


def test_field_types_that_are_none_are_a_configuration_error(run, events, tmp_path):
    types = tmp_path / "types.json"
    codes = []
    for text in ('{"a": "no_such_type"}', "[1]", "{", '{"a": 1}'):
        types.write_text(text)
        codes.append(run("match", "--fields", types, events).exit_code)

    assert codes == [3, 3, 3, 3]
