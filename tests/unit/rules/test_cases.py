"""Every file in tests/cases/rules is a case: adding a file adds a test.

The first line says what is found: ``# issues: code:line code:line``; without it, nothing is.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.kql import FieldTable
from pipeline.rules import RuleSet, load_rules, run_tests

CASES = Path(__file__).parents[2] / "cases" / "rules"


def cases(folder):
    return [pytest.param(path, id=path.stem) for path in sorted((CASES / folder).glob("*.toml"))]


def expected(path):
    first = path.read_text().partition("\n")[0]
    prefix, _, issues = first.partition("issues:")
    return sorted(issues.split()) if prefix == "# " else []


def check(path):
    loaded = load_rules([path])
    ruleset, issues = RuleSet.compile(loaded.rules, FieldTable.builtin(), loaded.drafts)
    found = (*loaded.issues, *issues)
    assert all(issue.path == path for issue in found)
    return ruleset, found


@pytest.mark.parametrize("path", cases("valid"))
def test_a_valid_file_loads_with_the_issues_its_first_line_names(path):
    ruleset, issues = check(path)

    assert sorted(f"{issue.code}:{issue.line}" for issue in issues) == expected(path)
    assert not any(issue.severity == "error" for issue in issues)
    assert len(ruleset.rules) + len(ruleset.skipped) >= 1


@pytest.mark.parametrize("path", cases("valid"))
def test_the_tests_of_a_valid_file_pass(path):
    ruleset, _ = check(path)

    failed = [result for rule in ruleset.rules for result in run_tests(rule) if not result.passed]

    assert failed == []


@pytest.mark.parametrize("path", cases("invalid"))
def test_an_invalid_file_yields_no_rule_and_the_errors_its_first_line_names(path):
    ruleset, issues = check(path)

    assert sorted(f"{issue.code}:{issue.line}" for issue in issues) == expected(path)
    assert all(issue.severity == "error" for issue in issues)
    assert (ruleset.rules, ruleset.skipped) == ((), ())
