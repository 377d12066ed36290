"""What a PromQL expression asks for, and what workers export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from pipeline.telemetry.catalogue import CATALOGUE, MetricSpec

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"

# What Prometheus itself adds to each series of a target.
TARGET_LABELS = frozenset({"job", "instance"})
# Prometheus' own, and those of prometheus-client.
OF_ANY_TARGET = (
    "up",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
)


def _labels_by_series() -> dict[str, frozenset[str]]:
    """Each series that can be asked for, with its labels: what a query may name."""
    series = dict.fromkeys(OF_ANY_TARGET, TARGET_LABELS)
    for spec in CATALOGUE:
        series |= dict.fromkeys(_series(spec), TARGET_LABELS | set(spec.labels))
    for spec in CATALOGUE:
        if spec.kind == "histogram":
            series[f"{spec.name}_bucket"] |= {"le"}
    return series


def _series(spec: MetricSpec) -> list[str]:
    if spec.kind == "histogram":
        return [f"{spec.name}_bucket", f"{spec.name}_sum", f"{spec.name}_count"]
    return [spec.name]


SERIES = _labels_by_series()


def _children(node: Any) -> Iterator[Any]:
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        child = getattr(node, name, None)
        if child is not None:
            yield child
    yield from getattr(node, "args", ())


def selectors(node: Any) -> Iterator[Any]:
    """Yield what an expression takes from Prometheus."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for child in _children(node):
        yield from selectors(child)


def grouping_labels(node: Any) -> Iterator[str]:
    """Yield the labels that an expression groups or joins by."""
    modifier = getattr(node, "modifier", None)
    if isinstance(node, promql_parser.AggregateExpr) and modifier is not None:
        yield from modifier.labels
    if isinstance(node, promql_parser.BinaryExpr) and modifier is not None and modifier.matching:
        yield from modifier.matching.labels
    for child in _children(node):
        yield from grouping_labels(child)


def labels_of(expression: Any) -> set[str]:
    """Return the labels of all series that an expression asks for."""
    return set().union(*(SERIES[selector.name] for selector in selectors(expression)))


def labels_left(expression: Any) -> set[str]:
    """Return the labels that the result of an expression can have."""
    return set(grouping_labels(expression)) or labels_of(expression)


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Return the rules of Prometheus by name: those that `alert`, or those that `record`."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


SERIES |= {
    name: frozenset(labels_of(promql_parser.parse(rule["expr"])))
    for name, rule in rules("record").items()
}


def assert_exported(expression: Any) -> None:
    """Fail unless workers export, or a rule records, all that an expression asks for."""
    found = list(selectors(expression))

    assert found
    assert [selector.name for selector in found if selector.name not in SERIES] == []
    for selector in found:
        used = {matcher.name for matcher in selector.matchers.matchers}
        assert used <= SERIES[selector.name], selector.name
        assert "job" in used, f"{selector.name} would also count other programs' series"
