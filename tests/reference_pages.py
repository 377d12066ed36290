"""Tables of the reference pages that are written by the code itself.

    python -m tests.reference_pages      write them anew into docs/reference/

A page is prose with marked places; what stands between `<!-- table: NAME -->` and `<!-- end -->` is
the table of that name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.config import Settings
from pipeline.kafka.topics import load_topic_specs
from pipeline.telemetry.catalogue import CATALOGUE, MetricSpec
from pipeline.telemetry.log_events import LOG_EVENTS

PAGES = Path(__file__).parent.parent / "docs" / "reference"
_PLACE = re.compile(r"(<!-- table: ([\w.]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines
    )


def settings_table(section: str) -> str:
    rows = [
        (
            f"`{spec.key}`",
            f"`{spec.env}`",
            spec.type,
            f"`{spec.default}`" if spec.default else "none",
            spec.description,
        )
        for spec in Settings.specs()
        if spec.key.startswith(f"{section}.")
    ]
    return table(("setting", "variable", "type", "default", "meaning"), rows)


def metrics_table(kind: str) -> str:
    return table(
        ("metric", "labels", "meaning"),
        [(f"`{spec.name}`", _labels(spec), spec.help) for spec in CATALOGUE if spec.kind == kind],
    )


def _labels(spec: MetricSpec) -> str:
    return ", ".join(
        f"`{label}`" + (f" ({', '.join(spec.known[label])})" if label in spec.known else "")
        for label in spec.labels
    )


def topics_table() -> str:
    specs = load_topic_specs(None, Settings())
    return table(
        ("topic", "purpose", "key", "value", "partitions"),
        [
            (f"`{spec.name}`", spec.purpose, spec.key, spec.value, str(spec.partitions or "any"))
            for spec in specs
        ],
    )


def topic_configs_table() -> str:
    return table(
        ("topic", "configs"),
        [
            (
                f"`{spec.name}`",
                ", ".join(f"`{name}={value}`" for name, value in spec.configs.items()),
            )
            for spec in load_topic_specs(None, Settings())
        ],
    )


def log_events_table() -> str:
    return table(
        ("`event.action`", "level", "meaning"),
        [(f"`{event.action}`", event.level, event.meaning) for event in LOG_EVENTS],
    )


TABLES: dict[str, Callable[[], str]] = {
    **{
        f"settings.{name}": (lambda name=name: settings_table(name))
        for name in Settings.model_fields
    },
    **{
        f"metrics.{kind}": (lambda kind=kind: metrics_table(kind))
        for kind in ("counter", "gauge", "histogram")
    },
    "topics": topics_table,
    "topics.configs": topic_configs_table,
    "log_events": log_events_table,
}


def render(page: str) -> str:
    """The page with its tables as the code has them now."""
    return _PLACE.sub(lambda place: f"{place[1]}\n{TABLES[place[2]]()}\n{place[3]}", page)


def names(page: str) -> list[str]:
    """The tables of a page, in order."""
    return [name for _, name, _ in _PLACE.findall(page)]


def main() -> None:
    for path in sorted(PAGES.glob("*.md")):
        path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
