"""The main figures as bars on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_OURS, _PEER, _LIMIT = "#0b6e4f", "#7a8594", "#c9a227"


def is_available() -> bool:
    """Return whether matplotlib is installed (dependency group `bench`)."""
    return find_spec("matplotlib") is not None


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw events per CPU-second of every contestant of the section `main`, with their spread.

    Args:
        results: what the command writes as JSON.
        path: a PNG or SVG file.

    Raises:
        ValueError: the section was not measured.
    """
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    bars = sorted(
        (
            (figures["events_per_cpu_second"], name, figures["title"])
            for name, figures in results["throughput"].get("main", {}).items()
            if figures["events_per_cpu_second"]
        ),
        key=lambda bar: bar[0]["median"],
    )
    if not bars:
        raise ValueError("nothing of the section `main` was measured")
    medians = [spread["median"] for spread, _, _ in bars]
    below = [spread["median"] - spread["min"] for spread, _, _ in bars]
    above = [spread["max"] - spread["median"] for spread, _, _ in bars]
    figure, axes = plt.subplots(figsize=(10, 0.55 * len(bars) + 1.8), layout="constrained")
    drawn = axes.barh(
        [title for _, _, title in bars],
        medians,
        xerr=[below, above],
        color=[_colour(name) for _, name, _ in bars],
        error_kw={"ecolor": "#30363d", "capsize": 3, "elinewidth": 1},
    )
    axes.bar_label(drawn, labels=[f"{median:,.0f}" for median in medians], padding=6)
    axes.set_xscale("log")
    axes.set_xlim(min(medians) / 3, max(medians) * 4)
    axes.set_xlabel("events per CPU-second of the consuming process (log scale); more is better")
    axes.set_title("2.4 KB events, zstd, 0.1 % candidates: median, least and most", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#d8dee4", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _colour(name: str) -> str:
    if name.startswith("firstseen"):
        return _OURS
    return _LIMIT if name == "decompression_limit" else _PEER
