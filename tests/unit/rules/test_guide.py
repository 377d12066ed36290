"""The examples of docs/rules.md are run, so that they stay true."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from pipeline.kql import FieldTable
from pipeline.rules import RuleSet, load_rules, parse_rule, run_tests

PAGE = (Path(__file__).parents[3] / "docs" / "rules.md").read_text()


def blocks(language):
    parts = PAGE.split(f"```{language}\n")[1:]
    return [part.partition("\n```")[0] for part in parts]


@pytest.fixture
def example():
    return blocks("toml")[0]


def test_the_rule_of_the_guide_loads_without_an_issue_and_passes_its_tests(example):
    rule, issues = parse_rule(tomllib.loads(example))
    assert issues == ()
    ruleset, issues = RuleSet.compile([rule], FieldTable.builtin())
    assert issues == ()

    results = run_tests(ruleset.rules[0])

    assert [result.failures for result in results] == [(), ()]


def test_the_issue_of_the_guide_is_what_a_misspelt_key_gives(example, tmp_path):
    path = tmp_path / "driver_new_on_host.toml"
    path.write_text(example.replace("index =", "max_signal = 5\nindex ="))

    (issue,) = load_rules([path]).issues

    assert str(issue).replace(str(tmp_path), "rules") in PAGE


def test_the_failure_of_the_guide_is_what_a_wrong_category_gives(example):
    wrong = example.replace('event.category = ["driver"]', 'event.category = ["library"]')
    rule, _ = parse_rule(tomllib.loads(wrong))
    ruleset, _ = RuleSet.compile([rule], FieldTable.builtin())

    failures = run_tests(ruleset.rules[0])[0].failures

    assert failures[0] in PAGE


def test_the_exception_of_the_guide_works(example, tmp_path):
    (tmp_path / "driver_new_on_host.toml").write_text(example)
    (tmp_path / "exceptions.toml").write_text(blocks("toml")[2])
    loaded = load_rules([tmp_path])
    ruleset, issues = RuleSet.compile(loaded.rules, FieldTable.builtin())
    assert (*loaded.issues, *issues) == ()
    (rule,) = ruleset.runnable
    driver = {"host.os.type": "windows", "event.category": "driver", "dll.name": "nightly-7.sys"}
    signed = {
        "dll.code_signature.subject_name": "Example Ltd",
        "dll.code_signature.trusted": True,
    }

    assert rule.matcher(driver)
    assert not rule.matcher({**driver, **signed})


def test_the_filter_of_the_guide_works(example):
    rule, issues = parse_rule(tomllib.loads(example + "\n" + blocks("toml")[1]))
    assert issues == ()
    ruleset, _ = RuleSet.compile([rule], FieldTable.builtin())
    event = {"host.os.type": "windows", "event.category": "driver"}

    assert ruleset.rules[0].matcher({**event, "process.executable": "C:\\a.exe"})
    assert not ruleset.rules[0].matcher(
        {**event, "process.executable": "c:\\WINDOWS\\system32\\a.exe"}
    )
