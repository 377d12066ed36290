"""firstseen rules: list, check, test, show."""

from __future__ import annotations

import json
import os

import pytest

from tests.rules import BUILTIN_RULE


def test_the_built_in_rules_are_listed(run):
    result = run("rules", "list")

    header, *lines = result.stdout.splitlines()
    assert header.split() == ["RULE", "ID", "NAME", "TYPE", "SEVERITY", "VERSION", "STATUS"]
    assert [line.split()[0] for line in lines] == [BUILTIN_RULE]
    assert lines[0].split()[-1] == "runs"


def test_the_list_as_json(run, rule_file):
    (rule,) = json.loads(run("rules", "list", "--json", rule_file).stdout)

    assert rule == {
        "rule_id": "ann-1",
        "name": "Ann does something",
        "type": "query",
        "version": rule["version"],
        "severity": "low",
        "risk_score": 21,
        "enabled": True,
        "runs": True,
        "status": "runs",
        "path": str(rule_file),
    }


def test_a_rule_that_is_skipped_says_why(run, rule_file):
    rule_file.write_text(rule_file.read_text().replace("risk_score", "enabled = false\nrisk_score"))
    (rule,) = json.loads(run("rules", "list", "--json", rule_file).stdout)

    assert (rule["runs"], rule["status"]) == (False, "skipped: is not enabled (enabled = false)")


def test_a_rule_with_a_wrong_query_is_listed_as_such(run, rule_file):
    rule_file.write_text(rule_file.read_text().replace("user.name:ann", "user.name:("))
    result = run("rules", "list", rule_file)

    assert "see `firstseen rules check`" in result.stdout
    assert "query_syntax" in result.stderr


def test_rules_that_are_fine_have_no_findings(run):
    result = run("rules", "check")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("1 rule, 1 of them run; 0 errors")


def test_a_finding_has_a_place_a_code_and_a_hint(run, rule_file):
    rule_file.write_text(rule_file.read_text().replace("severity", "severty"))
    result = run("rules", "check", rule_file)

    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert (
        f"{rule_file}:7: error[unknown_key]: unknown key 'severty' in rule (did you mean severity?)"
        in lines
    )


def test_a_wrong_query_is_shown_with_a_caret_and_its_hint_once(run, rule_file):
    rule_file.write_text(rule_file.read_text().replace("user.name:ann", r"user.name:\u12"))
    result = run("rules", "check", rule_file)

    assert result.exit_code == 1
    assert f"{rule_file}:9: error[query_syntax]" in result.stdout
    assert "^" in result.stdout
    (issue,) = json.loads(run("rules", "check", "--json", rule_file).stdout)["issues"]
    assert result.stdout.count(issue["hint"]) == 1


def test_warnings_alone_are_no_failure(run, rule_file):
    rule_file.write_text(rule_file.read_text().replace("user.name:ann", "user.names:ann"))
    result = run("rules", "check", "--json", rule_file)

    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (found["rules"], found["runnable"]) == (1, 1)
    assert "unmapped_field" in {issue["code"] for issue in found["issues"]}


def test_field_types_may_be_added(run, rule_file, tmp_path):
    rule_file.write_text(rule_file.read_text().replace("user.name:ann", "user.names:ann"))
    types = tmp_path / "types.json"
    types.write_text('{"user.names": "keyword"}')
    result = run("rules", "check", "--json", "--fields", types, rule_file)

    assert "unmapped_field" not in result.stdout


def test_the_tests_of_the_built_in_rules_pass(run):
    result = run("rules", "test")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.endswith("passed, 0 failed\n")


def test_a_failing_test_shows_expected_and_got(run, rule_file):
    rule_file.write_text(rule_file.read_text().replace('"alert", "no_match"', '"alert", "alert"'))
    result = run("rules", "test", rule_file)

    first, second = result.stdout.splitlines()
    assert result.exit_code == 1
    assert first == f"{rule_file}:10: failed: ann alerts"
    assert second.startswith("    event 2: expected alert, got no_match")
    assert result.stderr == "1 test: 0 passed, 1 failed\n"


def test_test_results_as_json(run, rule_file):
    result = run("rules", "test", "--json", rule_file)

    found = json.loads(result.stdout)
    assert (found["passed"], found["failed"], found["errors"]) == (1, 0, 0)
    assert found["tests"][0]["name"] == "ann alerts"


def test_a_rule_without_tests_is_mentioned(run, rule_file):
    rule_file.write_text(rule_file.read_text().partition("[[tests]]")[0])
    result = run("rules", "test", rule_file)

    assert (result.exit_code, result.stderr) == (
        0,
        "0 tests: 0 passed, 0 failed; 1 rule without tests\n",
    )


def test_a_rule_that_cannot_be_read_fails_the_tests(run, rule_file, tmp_path):
    (tmp_path / "bad.toml").write_text("[rule]\n")

    assert run("rules", "test", tmp_path).exit_code == 1


def test_tests_that_cannot_be_run_do_not_pass(run, rule_file):
    rule_file.write_text(
        rule_file.read_text()
        .replace('language = "kuery"', 'language = "eql"')
        .replace('"query"', '"eql"')
    )
    result = run("rules", "test", rule_file)

    assert result.exit_code == 1
    assert "1 test of ann-1 not run: the rule" in result.stderr
    assert json.loads(run("rules", "test", "--json", rule_file).stdout)["not_run"].keys() == {
        "ann-1"
    }


def test_field_types_without_end_are_an_error_that_says_so(run, tmp_path):
    fields = tmp_path / "fields.json"
    fields.write_text("[" * 100_000)

    result = run("rules", "check", "--fields", fields)

    assert result.exit_code == 3
    assert "this is not JSON" in result.stderr


def test_field_types_may_begin_with_a_byte_order_mark(run, tmp_path):
    fields = tmp_path / "fields.json"
    fields.write_text('\ufeff{"acme.a": "keyword"}')

    assert run("rules", "check", "--fields", fields).exit_code == 0


def test_a_rule_is_shown_in_full(run):
    shown = run("rules", "show").stdout

    for part in (
        "Suspicious PowerShell Engine ImageLoad",
        "host.id, process.executable, user.id",
        "14d",
        "100 alerts in 5m",
        "process.code_signature.trusted:true",
        "TA0002 Execution",
        "T1059.001 PowerShell",
        "Investigation guide",
    ):
        assert part in shown


def test_a_rule_as_json_holds_what_its_file_says(run):
    (rule,) = json.loads(run("rules", "show", "--json").stdout)

    assert rule["rule_id"] == BUILTIN_RULE
    assert rule["new_terms"] == {
        "fields": ["host.id", "process.executable", "user.id"],
        "history_window_start": "now-14d",
    }
    assert (rule["interval"], rule["from"], rule["max_signals"]) == ("5m", "now-9m", 100)


def test_a_rule_shows_its_filters_and_which_time_counts(run, rule_file):
    with_filter = 'query = \'user.name:ann\'\ntimestamp_override = "event.ingested"\n[[rule.filters]]\nmeta.negate = true\nquery.term."host.id" = "h1"\n'
    text = rule_file.read_text()
    rule_file.write_text(text.replace("query = 'user.name:ann'\n", with_filter))
    shown = run("rules", "show", rule_file).stdout

    assert "event.ingested, otherwise @timestamp\n" in shown
    assert '{"meta": {"negate": true}, "query": {"term": {"host.id": "h1"}}}\n' in shown


@pytest.mark.parametrize(
    ("keys", "index", "as_json"),
    [
        ('index = ["logs-*", "-logs-x*"]\n', "logs-*, -logs-x*", (["logs-*", "-logs-x*"], None)),
        ("", "any", ([], None)),
        (
            'index = ["logs-*"]\ndata_view_id = "mine"\n',
            "any: logs-* is set aside by data_view_id",
            (["logs-*"], "mine"),
        ),
    ],
    ids=["index", "none", "data view"],
)
def test_a_rule_shows_the_index_patterns_that_it_is_narrowed_to(
    run, rule_file, keys, index, as_json
):
    text = rule_file.read_text()
    rule_file.write_text(text.replace('severity = "low"\n', f'severity = "low"\n{keys}'))
    (rule,) = json.loads(run("rules", "show", "--json", rule_file).stdout)

    assert f"\nIndex:          {index}\n" in run("rules", "show", rule_file).stdout
    assert (rule["index"], rule["data_view_id"]) == as_json


def test_a_rule_that_looks_back_not_at_all_does_so_from_now(run, rule_file):
    text = rule_file.read_text()
    rule_file.write_text(text.replace('severity = "low"\n', 'severity = "low"\nfrom = "now"\n'))

    assert json.loads(run("rules", "show", "--json", rule_file).stdout)[0]["from"] == "now"


def test_one_rule_may_be_picked_by_its_id(run):
    assert run("rules", "show", "--id", BUILTIN_RULE).exit_code == 0

    result = run("rules", "show", "--id", "nope")
    assert (result.exit_code, result.stderr) == (4, "Error: no rule has the id nope\n")


def test_a_file_name_of_stray_bytes_ends_no_command_in_the_middle(start, rule_file, tmp_path):
    stray = rule_file.rename(tmp_path / os.fsdecode(b"\xff.toml"))
    as_json, as_text = start("rules", "list", "--json", stray), start("rules", "show", stray)
    out, err = as_json.communicate()
    text, _ = as_text.communicate()

    assert (as_json.returncode, err, as_text.returncode) == (0, b"", 0)
    assert json.loads(out)[0]["path"] == str(stray)
    assert b"\\udcff.toml" in text


def test_the_name_of_a_file_cannot_drive_the_terminal_or_be_a_line_of_its_own(run, tmp_path):
    path = tmp_path / "a\x1b[2J\nb.toml: error[forged]: b\u202e.toml"
    path.write_text("[rule\n")

    printed = run("rules", "check", path).stdout

    assert "a\\x1b[2J\\nb.toml: error[forged]: b\\u202e.toml:1: error[toml_syntax]" in printed
    assert len(printed.splitlines()) == 1
