"""Runs added up: the JSON, the table, and whether it is good enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.statistics import percentile
from tests.chaos.schedule import Kind

WRONG = {
    "lost": "new terms were not reported",
    "invented": "terms were reported as new that are not, or under a second id",
    "differing": "ids stand in a topic with different bytes",
    "split": "ids are both among the alerts and in the overflow",
    "passed": "commits went past a new term whose alert was not acknowledged",
    "turned_back": "committed offsets went back",
    "dead_letters": "records became dead letters",
    "not_drained": "runs were not through with everything in time",
    "broken": "faults could not be done: the tests are broken",
}
"""What must be 0, and what it means when it is not."""


def add_up(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of all runs together; `details` holds the runs themselves."""
    recoveries = sorted(seconds for run in runs for seconds in run["recoveries"])
    return {
        "runs": len(runs),
        "events": sum(run["events"] for run in runs),
        "new_terms": sum(run["new_terms"] for run in runs),
        "seconds": round(sum(run["seconds"] for run in runs)),
        "faults": _counted(runs, "faults"),
        "gaps": _counted(runs, "gaps"),
        "worker_kills": sum(run["worker_kills"] for run in runs),
        "worker_exits": _counted(runs, "worker_exits"),
        **{name: sum(len(run[name]) for run in runs) for name in _LISTS},
        "dead_letters": sum(run["dead_letters"] for run in runs),
        "not_drained": sum(run["drained_after"] is None for run in runs),
        "recovery_seconds": {
            "p50": round(percentile(recoveries, 50), 1) if recoveries else None,
            "p99": round(percentile(recoveries, 99), 1) if recoveries else None,
            "max": round(max(recoveries), 1) if recoveries else None,
        },
        "commit_samples": sum(run["samples"] for run in runs),
        "details": list(runs),
    }


_LISTS = (
    "lost",
    "invented",
    "duplicated",
    "differing",
    "split",
    "passed",
    "turned_back",
    "broken",
)


def problems(results: dict[str, Any]) -> list[str]:
    """Return one line for each thing that must not be."""
    return [f"{results[name]} {meaning}" for name, meaning in WRONG.items() if results[name]]


def markdown(results: dict[str, Any]) -> str:
    """Return the table of docs/reliability.md."""
    faults = results["faults"]
    recovery = results["recovery_seconds"]
    rows = [(kind.capitalize(), faults[kind]) for kind in Kind if faults.get(kind)]
    figures = [
        ("Runs", results["runs"]),
        ("Events", results["events"]),
        ("New terms", results["new_terms"]),
        ("Worker processes killed (SIGKILL)", results["worker_kills"]),
        ("Workers that died in the gap they were armed for", sum(results["gaps"].values())),
        ("New terms lost", results["lost"]),
        ("New terms invented, or reported under a second id", results["invented"]),
        ("Alerts repeated, same id and same bytes", results["duplicated"]),
        ("Ids with different bytes, or in both topics", results["differing"] + results["split"]),
        (
            "Commits seen past an alert not acknowledged, or going back",
            f"{results['passed'] + results['turned_back']} of {results['commit_samples']:,}",
        ),
        ("Recovery, median", f"{recovery['p50']} s"),
        ("Recovery, 99th percentile", f"{recovery['p99']} s"),
        ("Recovery, longest", f"{recovery['max']} s"),
    ]
    lines = ["| fault | times |", "|---|---:|", *(f"| {name} | {times} |" for name, times in rows)]
    lines += ["", "| outcome | |", "|---|---:|"]
    for name, value in figures:
        shown = f"{value:,}" if isinstance(value, int) else value
        lines.append(f"| {name} | {shown} |")
    return "\n".join(lines)


def _counted(runs: Sequence[dict[str, Any]], name: str) -> dict[str, int]:
    total: Counter[str] = Counter()
    for run in runs:
        total.update(run[name])
    return dict(sorted(total.items()))
