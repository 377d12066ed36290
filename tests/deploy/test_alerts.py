from __future__ import annotations

import re
import subprocess
from pathlib import Path

import promql_parser
import pytest
import yaml

from tests.deploy.promql import (
    assert_exported,
    grouping_labels,
    labels_left,
    labels_of,
    rules,
    selectors,
)

DIRECTORY = Path(__file__).parents[2] / "deploy" / "prometheus"


ALERTS = rules("alert")
RECORDED = rules("record")
every_alert = pytest.mark.parametrize("name", sorted(ALERTS))


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "alerts.yml"), ("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")],
    ids=lambda arguments: " ".join(arguments[:2]),
)  # fmt: skip
def test_promtool_agrees(promtool, arguments):
    done = subprocess.run(
        [promtool, *arguments],
        cwd=DIRECTORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@every_alert
def test_an_alert_says_what_happened_how_bad_and_what_to_do(name):
    rule = ALERTS[name]

    assert re.fullmatch(r"Firstseen([A-Z][a-z]+)+", name)
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert "{{" not in rule["annotations"]["summary"]  # a fixed text groups notifications


@every_alert
def test_an_alert_asks_only_for_series_and_labels_that_workers_export(name):
    assert_exported(promql_parser.parse(ALERTS[name]["expr"]))


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_what_is_recorded_is_exported_and_an_alert_asks_for_it(name):
    assert_exported(promql_parser.parse(RECORDED[name]["expr"]))
    asked = {
        selector.name
        for rule in ALERTS.values()
        for selector in selectors(promql_parser.parse(rule["expr"]))
    }

    assert name in asked


@every_alert
def test_an_alert_groups_only_by_labels_that_its_series_have(name):
    expression = promql_parser.parse(ALERTS[name]["expr"])

    assert set(grouping_labels(expression)) <= labels_of(expression)


@every_alert
def test_an_alert_shows_only_labels_that_are_left_after_its_grouping(name):
    expression = promql_parser.parse(ALERTS[name]["expr"])
    shown = set(re.findall(r"\$labels\.(\w+)", ALERTS[name]["annotations"]["description"]))

    assert shown <= labels_left(expression)


@every_alert
def test_an_alert_has_a_test_that_it_fires_and_one_that_it_does_not(name):
    groups = yaml.safe_load((DIRECTORY / "alerts_test.yml").read_text())["tests"]
    tests = [
        test for group in groups for test in group["alert_rule_test"] if test["alertname"] == name
    ]

    assert {bool(test.get("exp_alerts")) for test in tests} == {True, False}


def test_the_runbook_has_one_section_for_each_alert_and_no_other():
    runbook = (DIRECTORY.parents[1] / "docs" / "runbook.md").read_text()

    assert sorted(re.findall(r"^## (.+)$", runbook, re.MULTILINE)) == sorted(ALERTS)


@every_alert
def test_an_alert_links_to_its_section(name):
    assert ALERTS[name]["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


@every_alert
def test_a_section_of_the_runbook_has_its_five_parts(name):
    runbook = (DIRECTORY.parents[1] / "docs" / "runbook.md").read_text()
    section = runbook.split(f"## {name}\n")[1].split("\n## ")[0]

    parts = ["Means.", "Impact.", "Look at.", "Do.", "Do not."]
    assert re.findall(r"^\*\*(.+?)\*\*", section, re.MULTILINE) == parts


def test_the_scraped_job_is_the_one_the_alerts_ask_for():
    config = yaml.safe_load((DIRECTORY / "prometheus.yml").read_text())
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    asked = {
        matcher.value
        for rule in ALERTS.values()
        for selector in selectors(promql_parser.parse(rule["expr"]))
        for matcher in selector.matchers.matchers
        if matcher.name == "job"
    }

    assert asked == jobs
