"""The Grafana dashboards: as their program writes them, and only of what workers export."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from deploy.grafana.build import NAMES, build
from tests.deploy.promql import assert_exported, grouping_labels, labels_left, labels_of

DIRECTORY = Path(__file__).parents[2] / "deploy" / "grafana"
# Variables of Grafana, with a value that PromQL can have in their place.
VALUES = {
    "$job": "firstseen-worker",
    "$rule_id": ".*",
    "$__rate_interval": "1m",
    "$__range": "1h",
}


def _dashboard(name: str) -> dict[str, Any]:
    return json.loads((DIRECTORY / "dashboards" / f"{name}.json").read_text())


DASHBOARDS = {name: _dashboard(name) for name in NAMES}
PANELS = {
    f"{name}: {panel['title']}: {panel['type']}": panel
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
}
TARGETS = {
    f"{panel}: {target['refId']}": target
    for panel, built in PANELS.items()
    for target in built["targets"]
}
every_dashboard = pytest.mark.parametrize("name", DASHBOARDS)
every_panel = pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


def _parsed(target: dict[str, Any]) -> Any:
    expression = target["expr"]
    for variable, value in VALUES.items():
        expression = expression.replace(variable, value)
    return promql_parser.parse(expression)


@every_dashboard
def test_a_dashboard_is_what_its_program_writes(name):
    written = (DIRECTORY / "dashboards" / f"{name}.json").read_text()

    assert written == build(name), "run: uv run python deploy/grafana/build.py"


def test_there_is_no_other_dashboard():
    assert {path.stem for path in (DIRECTORY / "dashboards").iterdir()} == set(DASHBOARDS)


def test_all_panels_are_looked_at():
    panels = [
        panel
        for name in DASHBOARDS
        for section in yaml.safe_load((DIRECTORY / f"{name}.yml").read_text())["sections"]
        for panel in section["panels"]
    ]

    assert len(PANELS) == len(panels)


@every_dashboard
def test_a_dashboard_works_with_any_data_source_and_any_job(name):
    first, second, *_ = DASHBOARDS[name]["templating"]["list"]

    assert (first["name"], first["type"], first["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    assert second["name"] == "job"


@every_dashboard
def test_the_ids_and_the_panels_of_a_dashboard_differ(name):
    ids = [panel["id"] for panel in DASHBOARDS[name]["panels"]]

    assert len(set(ids)) == len(ids)


@every_dashboard
def test_no_panel_lies_over_another(name):
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARDS[name]["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@every_panel
def test_a_panel_says_what_it_shows(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@every_target
def test_a_query_asks_only_for_series_and_labels_that_workers_export(target):
    assert_exported(_parsed(target))


@every_target
def test_a_query_groups_only_by_labels_that_its_series_have(target):
    expression = _parsed(target)

    assert set(grouping_labels(expression)) <= labels_of(expression)


@every_target
def test_the_legend_names_only_labels_that_are_left_after_the_grouping(target):
    named = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))

    assert named <= labels_left(_parsed(target))


@every_target
def test_a_rate_over_time_fits_the_time_that_is_shown(target):
    """With a fixed window, a rate over a month would look at a few minutes of each day."""
    ranges = re.findall(r"\[(.+?)\]", target["expr"])
    shows_one_number = target.get("legendFormat") is None

    assert set(ranges) <= {"$__rate_interval", *(("$__range", "1h") if shows_one_number else ())}


def test_the_provisioned_folders_are_those_that_compose_mounts(compose):
    mounted = {
        target: source
        for source, target, _ in (
            volume.split(":")
            for volume in compose["services"]["grafana"]["volumes"]
            if volume.startswith(".")
        )
    }
    provider = yaml.safe_load((DIRECTORY / "provisioning/dashboards/firstseen.yml").read_text())
    home = compose["services"]["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ]

    (folder,) = (each["options"]["path"] for each in provider["providers"])
    assert mounted[folder] == "./deploy/grafana/dashboards"
    assert home == f"{folder}/overview.json"
    assert mounted["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"


def test_the_data_source_is_the_prometheus_of_compose(compose):
    source = yaml.safe_load((DIRECTORY / "provisioning/datasources/prometheus.yml").read_text())
    config = yaml.safe_load((DIRECTORY.parent / "prometheus" / "prometheus.yml").read_text())
    (prometheus,) = source["datasources"]

    assert "prometheus" in compose["services"]
    assert prometheus["url"] == "http://prometheus:9090"
    assert prometheus["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
