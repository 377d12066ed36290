"""The results as JSON: ratios first, then the raw figures they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.benchmarks.statistics import significant

RATIOS_OF_PEERS = (
    "stock_faust",
    "quix_streams",
    "kafka_streams",
    "bytewax",
    "librdkafka_loop",
    "aiokafka_loop",
    "decompression_limit",
)
MEANING = {
    **dict.fromkeys(
        RATIOS_OF_PEERS,
        "firstseen's events per CPU-second over the peer's: more is better for firstseen",
    ),
    "rules_241_over_1": "CPU time of an event with 241 rules over that with one: less is better",
    "broad_over_narrow": "events per CPU-second where a rule matches five of a hundred, over those "
    "where one of two thousand matches",
    "state_quix_streams": "firstseen's durable decisions per CPU-second over the peer's",
    "state_kafka_streams": "firstseen's durable decisions per CPU-second over the peer's",
}
GOALS = {
    "stock_faust": 50.0,
    "quix_streams": 5.0,
    "kafka_streams": 3.0,
    "librdkafka_loop": 1.8,
    "decompression_limit": 0.55,
    "rules_241_over_1": 1.5,
    "broad_over_narrow": 0.5,
    "state_quix_streams": 2.0,
    "state_kafka_streams": 1.0,
}
"""What the ratios are meant to reach; `rules_241_over_1` is a most, the others are leasts."""

_AT_MOST = {"rules_241_over_1"}


def _median(figures: Mapping[str, Any], name: str) -> float | None:
    spread = (figures.get(name) or {}).get("events_per_cpu_second")
    return spread["median"] if spread else None


def _over(above: float | None, below: float | None) -> float | None:
    return significant(above / below) if above and below else None


def ratios(throughput: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the ratios; None for what was not measured, or not validly.

    Args:
        throughput: by section and case, as `CaseResult.as_json` gives them.
        state: as `measure_state` returns it.
    """
    main = throughput.get("main", {})
    ours = _median(main, "firstseen")
    found = {name: _over(ours, _median(main, name)) for name in RATIOS_OF_PEERS}
    found["rules_241_over_1"] = _over(ours, _median(main, "firstseen_rules_241"))
    broad = throughput.get("broad", {})
    found["broad_over_narrow"] = _over(
        _median(broad, "firstseen@broad"), _median(broad, "firstseen@narrow")
    )
    medians = state.get("medians", {})
    for peer in ("quix_streams", "kafka_streams"):
        found[f"state_{peer}"] = _over(medians.get("firstseen"), medians.get(peer))
    return found


def reached(name: str, value: float | None) -> bool | None:
    """Return whether a ratio reaches its goal; None if it has none or was not measured."""
    goal = GOALS.get(name)
    if goal is None or value is None:
        return None
    return value <= goal if name in _AT_MOST else value >= goal


def problems(results: Mapping[str, Any]) -> list[str]:
    """Return what did not run, or did not count, as sentences."""
    found = [
        f"{section}: {name}: {figures['problem']}"
        for section, cases in results["throughput"].items()
        for name, figures in cases.items()
        if figures["problem"]
    ]
    found += [f"state: {name}: {text}" for name, text in _problems_of_state(results).items()]
    if "problem" in results["latency"]:
        found.append(f"latency: {results['latency']['problem']}")
    return found


def _problems_of_state(results: Mapping[str, Any]) -> dict[str, str]:
    return dict(results["state"].get("problems", {}))


def summary(results: Mapping[str, Any]) -> str:
    """Return the ratios as a table for people."""
    lines = [f"{'ratio':<24}{'value':>10}{'goal':>10}"]
    for name, value in results["ratios"].items():
        shown = "-" if value is None else f"{value:g}"
        goal = GOALS.get(name)
        sign = "<=" if name in _AT_MOST else ">="
        wanted = "" if goal is None else f"{sign} {goal:g}"
        verdict = {True: "reached", False: "missed", None: ""}[reached(name, value)]
        lines.append(f"{name:<24}{shown:>10}{wanted:>10}  {verdict}".rstrip())
    return "\n".join(lines)
