"""The rules of a worker: what is wrong with them stands in its log and its metrics."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from pipeline.cli.worker_rules import load_worker_rules
from pipeline.config import Settings
from pipeline.errors import FieldTypesError, RuleError
from pipeline.telemetry.logging import configure
from pipeline.telemetry.metrics import Metrics


def load(*paths: Path, **settings: object):
    """Load rules as a worker does: the rule set, its metrics, its log lines."""
    stream, metrics = io.StringIO(), Metrics()
    overrides = {"rules.paths": paths, "log.format": "json", **settings}
    configured = Settings.load(overrides=overrides, environ={})
    configure(configured.log, stream)
    ruleset = load_worker_rules(configured, metrics)
    return ruleset, metrics, [json.loads(line) for line in stream.getvalue().splitlines()]


def statuses(metrics: Metrics) -> dict[str, int]:
    lines = metrics.render().decode().splitlines()
    found = [line for line in lines if line.startswith("firstseen_rules_loaded{")]
    return {line.split('"')[1]: int(float(line.split()[-1])) for line in found}


def test_the_built_in_rules_are_loaded_in_silence():
    ruleset, _, lines = load()

    assert (len(ruleset.runnable), lines) == (1, [])


def test_each_rule_that_does_not_run_is_counted_and_told(rule_file, tmp_path):
    text = rule_file.read_text()
    (tmp_path / "bad.toml").write_text("[rule]\n")
    (tmp_path / "off.toml").write_text(
        text.replace("ann-1", "ann-2").replace("risk_score", "enabled = false\nrisk_score")
    )
    (tmp_path / "eql.toml").write_text(
        text.replace("ann-1", "ann-3")
        .replace('type = "query"', 'type = "eql"')
        .replace('"kuery"', '"eql"')
        .partition("[[tests]]")[0]
    )
    ruleset, metrics, lines = load(tmp_path)

    assert [compiled.rule.rule_id for compiled in ruleset.runnable] == ["ann-1"]
    counted = {status: statuses(metrics)[status] for status in ("disabled", "skipped", "invalid")}
    assert counted == {"disabled": 1, "skipped": 1, "invalid": 1}
    told = {(line["log.level"], line["event.action"]) for line in lines}
    assert told == {("error", "rule_not_used"), ("info", "rules_skipped")}
    finding = next(line for line in lines if line["event.action"] == "rule_not_used")
    assert finding["firstseen.finding"].startswith(f"{tmp_path}/bad.toml:1: error[missing_key]")


def test_a_rule_runs_without_an_exception_that_has_an_error(rule_file, tmp_path):
    (tmp_path / "exceptions.toml").write_text(
        "[[exceptions]]\nname = 'x'\nrules = ['ann-1']\nquery = 'user.name:('\n"
    )
    ruleset, metrics, lines = load(tmp_path)

    assert [compiled.rule.rule_id for compiled in ruleset.runnable] == ["ann-1"]
    assert statuses(metrics)["invalid"] == 1
    assert [(line["event.action"], line["error.code"]) for line in lines] == [
        ("rule_not_used", "query_syntax")
    ]


def test_a_doubtful_rule_runs_with_a_warning(rule_file):
    rule_file.write_text(rule_file.read_text().replace("user.name:ann", "user.names:ann"))
    ruleset, _, lines = load(rule_file)

    assert len(ruleset.runnable) == 1
    assert [(line["log.level"], line["event.action"]) for line in lines] == [
        ("warning", "rule_doubtful")
    ]


def test_without_a_rule_to_run_there_is_no_worker(tmp_path):
    (tmp_path / "bad.toml").write_text("[rule]\n")

    with pytest.raises(RuleError, match="no rule can be run"):
        load(tmp_path)


def test_field_types_that_are_none_are_refused(tmp_path):
    (tmp_path / "types.json").write_text("[]")

    with pytest.raises(FieldTypesError, match="types.json"):
        load(**{"rules.fields": tmp_path / "types.json"})
