"""The catalogue and the registry built from it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import pipeline
from pipeline.telemetry import catalogue
from pipeline.telemetry.catalogue import CATALOGUE, MetricSpec
from pipeline.telemetry.metrics import CONTENT_TYPE, Metrics

SOURCES = sorted(Path(pipeline.__file__).parent.rglob("*.py"))


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


def test_the_catalogue_lists_every_metric_of_its_module_once():
    declared = [spec for spec in vars(catalogue).values() if isinstance(spec, MetricSpec)]

    assert sorted(declared, key=id) == sorted(CATALOGUE, key=id)
    assert len({spec.name for spec in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("spec", CATALOGUE, ids=lambda spec: spec.name)
def test_a_metric_is_named_as_prometheus_asks(spec):
    assert re.fullmatch(r"firstseen_[a-z_]+", spec.name)
    assert (spec.kind == "counter") == spec.name.endswith("_total")
    assert (spec.kind == "histogram") == bool(spec.buckets)
    assert spec.kind != "histogram" or spec.name.endswith("_seconds")
    assert spec.help.endswith(".")
    assert set(spec.known) <= set(spec.labels)
    assert list(spec.buckets) == sorted(set(spec.buckets))


def test_no_histogram_has_labels_because_each_would_be_many_series():
    assert [] == [spec.name for spec in CATALOGUE if spec.kind == "histogram" and spec.labels]


def test_labels_are_bounded_names():
    allowed = {
        "topic", "partition", "rule_id", "code", "stage", "outcome", "result", "reason", "severity",
        "table", "state", "status", "digest", "version", "python",
    }  # fmt: skip

    assert set() == {label for spec in CATALOGUE for label in spec.labels} - allowed


def test_what_is_exported_is_what_the_catalogue_lists():
    exported = {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in text_string_to_metric_families(Metrics().render().decode())
        if family.name.startswith("firstseen_")
    }

    assert {spec.name: spec.kind for spec in CATALOGUE} == exported


def test_every_metric_is_written_somewhere():
    metrics = Metrics()
    attributes = {name for name in vars(metrics) if name != "registry"}
    sources = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    written = set(re.findall(r"metrics\.(\w+)", sources))
    written |= set(re.findall(r"self\.(\w+)\.(?:labels|set|inc)\(", sources))

    assert set() == attributes - written


def test_the_process_is_measured_too():
    names = {name for name, _ in samples(Metrics())}

    assert {"process_resident_memory_bytes", "python_info", "process_start_time_seconds"} <= names


def test_no_series_tells_when_another_was_created():
    assert [] == [name for name, _ in samples(Metrics()) if name.endswith("_created")]


def test_series_known_in_advance_are_zero_from_the_start():
    metrics = Metrics()

    assert (0.0, 0.0) == (
        value(metrics, "firstseen_sightings_total", result="new"),
        value(metrics, "firstseen_alerts_by_severity_total", severity="critical"),
    )


def test_topics_and_rules_can_be_announced():
    metrics = Metrics()

    metrics.expect_topics(("a",))
    metrics.expect_rules(("r",))

    assert (0.0, 0.0, 0.0) == (
        value(metrics, "firstseen_records_processed_total", topic="a", outcome="dead_letter"),
        value(metrics, "firstseen_records_consumed_total", topic="a"),
        value(metrics, "firstseen_alerts_total", rule_id="r"),
    )


def test_children_are_made_once():
    metrics = Metrics()

    assert metrics.alerts.labels("r") is metrics.alerts.labels("r")


def test_two_workers_in_one_process_count_apart():
    first, second = Metrics(), Metrics()

    first.rebalances.inc()

    assert (1.0, 0.0) == (
        value(first, "firstseen_rebalances_total"),
        value(second, "firstseen_rebalances_total"),
    )


def test_a_registry_may_be_given():
    registry = CollectorRegistry()

    assert registry is Metrics(registry).registry


def test_exactly_one_worker_state_is_on():
    metrics = Metrics()

    metrics.set_worker_state("recovering")
    metrics.set_worker_state("running")

    states = {
        state: value(metrics, "firstseen_worker_state", state=state)
        for state in catalogue.WORKER_STATES
    }
    assert dict.fromkeys(catalogue.WORKER_STATES, 0.0) | {"running": 1.0} == states


def test_a_worker_state_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="'happy'"):
        Metrics().set_worker_state("happy")


def test_one_rule_set_remains():
    metrics = Metrics()

    metrics.set_ruleset("old")
    metrics.set_ruleset("new")

    assert (None, 1.0) == (
        value(metrics, "firstseen_ruleset_info", digest="old"),
        value(metrics, "firstseen_ruleset_info", digest="new"),
    )


def test_a_revoked_partition_is_no_longer_exported():
    metrics = Metrics()
    metrics.consumer_lag.labels("a", "0").set(5)
    metrics.consumer_lag.labels("a", "1").set(6)

    metrics.forget_partition("a", 0)
    metrics.forget_partition("never", 3)

    assert (None, 6.0) == (
        value(metrics, "firstseen_consumer_lag_records", topic="a", partition="0"),
        value(metrics, "firstseen_consumer_lag_records", topic="a", partition="1"),
    )


def test_a_large_worker_stays_within_its_series():
    """500 rules, 12 partitions: the budget of a scrape is 2,000 series and 4 per rule."""
    metrics = Metrics()
    metrics.expect_topics(("a", "b"))
    metrics.expect_rules(tuple(f"r{number}" for number in range(500)))
    for partition in range(12):
        metrics.consumer_lag.labels("a", str(partition)).set(0)
        metrics.last_record_timestamp.labels("a", str(partition)).set(0)

    assert len(samples(metrics)) <= 2000 + 4 * 500


def test_the_content_type_is_that_of_the_text_format():
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_only_the_metrics_module_imports_prometheus_client():
    importers = {
        path.relative_to(SOURCES[0].parent).as_posix()
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and (getattr(node, "module", None) or node.names[0].name).startswith("prometheus_client")
    }

    assert {"telemetry/metrics.py"} == importers
