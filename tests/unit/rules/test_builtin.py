from __future__ import annotations

import pytest

from pipeline.kql import FieldTable
from pipeline.rules import RuleSet, RuleType, load_rules, run_tests

IMAGELOAD = "852c1f19-68e8-43a6-9dce-340771fe1be3"


@pytest.fixture(scope="module")
def ruleset():
    loaded = load_rules()
    compiled, issues = RuleSet.compile(loaded.rules, FieldTable.builtin())
    assert (loaded.issues, issues) == ((), ())
    return compiled


def test_every_built_in_rule_runs_and_has_tests(ruleset):
    assert len(ruleset.runnable) == len(ruleset.rules) > 0
    assert all(compiled.rule.tests for compiled in ruleset.rules)


def test_the_tests_of_every_built_in_rule_pass(ruleset):
    results = [result for compiled in ruleset.rules for result in run_tests(compiled)]

    assert [result for result in results if not result.passed] == []
    assert results


def test_the_powershell_engine_rule_is_version_211(ruleset):
    rule = ruleset.get(IMAGELOAD).rule

    assert (rule.name, rule.version, rule.type) == (
        "Suspicious PowerShell Engine ImageLoad",
        211,
        RuleType.NEW_TERMS,
    )
    assert rule.new_terms.fields == ("host.id", "process.executable", "user.id")
    assert rule.new_terms.history_ms == 14 * 86_400_000
    assert rule.index == ("logs-endpoint.events.library-*",)
    assert (rule.interval_ms, rule.from_ms) == (300_000, 540_000)
    assert rule.timestamp_override == "event.ingested"
    assert (rule.severity, rule.risk_score, rule.max_signals) == ("medium", 47, 100)
    assert (rule.author, rule.license) == (("Elastic",), "Elastic License v2")
    (threat,) = rule.threat
    (technique,) = threat.techniques
    assert (threat.tactic_id, technique.id) == ("TA0002", "T1059")
    assert [sub.id for sub in technique.subtechniques] == ["T1059.001"]


def test_the_powershell_engine_rule_reads_library_indices_only(ruleset):
    compiled = ruleset.get(IMAGELOAD)

    assert compiled.accepts_index("logs-endpoint.events.library-default")
    assert not compiled.accepts_index("logs-endpoint.events.process-default")
    assert compiled.accepts_index(None)


def test_the_powershell_engine_rule_can_skip_records_undecoded(ruleset):
    engine, *others = ruleset.get(IMAGELOAD).clauses

    assert all("System.Management.Automation" in needle.text for needle in engine)
    assert {"windows", "library"} == {needle.text for clause in others for needle in clause}
