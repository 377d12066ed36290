"""Write the Grafana dashboards, `dashboards/*.json`, from `overview.yml` and `rules.yml`.

    uv run python deploy/grafana/build.py

What Grafana reads is a thousand lines a dashboard; what a panel is, is five. The JSON is committed,
so that nobody needs this program to use it, and a test compares it with what this program writes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DIRECTORY = Path(__file__).parent
NAMES = ("overview", "rules")

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_TAG = "firstseen"
_WIDTH = 24
_QUANTILES = (0.5, 0.95, 0.99)

_Built = stat.Panel | table.Panel | timeseries.Panel


class Panel(msgspec.Struct, forbid_unknown_fields=True):
    """One panel: exactly one of `number`, `lines`, `quantiles` and `columns` is given.

    Attributes:
        title: what it shows.
        description: what that means, and what is bad.
        number: PromQL that gives one value.
        lines: PromQL by the name of its lines, in which `{{label}}` is a label's value.
        quantiles: a histogram, of which p50, p95 and p99 are drawn.
        columns: PromQL by the title of a column; a row for each value of the label they share.
            The first column sorts the table.
        unit: one of Grafana's.
        stacked: whether the lines add up.
        bad_from: a number is red from here on, and green below.
        bad_below: a number is red below, and green from here on.
    """

    title: str
    description: str
    number: str = ""
    lines: dict[str, str] = {}
    quantiles: str = ""
    columns: dict[str, str] = {}
    unit: str = "short"
    stacked: bool = False
    bad_from: float | None = None
    bad_below: float | None = None

    def __post_init__(self) -> None:
        if sum(map(bool, (self.number, self.lines, self.quantiles, self.columns))) != 1:
            raise ValueError("a panel has one of `number`, `lines`, `quantiles`, `columns`")


class Section(msgspec.Struct, forbid_unknown_fields=True):
    """A row of panels below a question which they answer."""

    title: str
    side_by_side: int
    panels: list[Panel]


class Layout(msgspec.Struct, forbid_unknown_fields=True):
    """A dashboard. `choose` is a label: its values to be shown can be chosen at the top."""

    title: str
    sections: list[Section]
    choose: str = ""


def build(name: str) -> str:
    """Return one dashboard as Grafana's JSON, from its layout."""
    layout = msgspec.yaml.decode((DIRECTORY / f"{name}.yml").read_bytes(), type=Layout)
    built = (
        dashboard.Dashboard(layout.title)
        .uid(f"firstseen-{name}")
        .tags([_TAG])
        .readonly()
        .refresh("1m")
        .time("now-6h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(dashboard.DashboardLink("firstseen").type(DashboardLinkType.DASHBOARDS).tags([_TAG]))
    )
    for variable in _variables(layout):
        built.with_variable(variable)
    ids = itertools.count(1)
    for section in layout.sections:
        built.with_row(dashboard.Row(section.title).id(next(ids)))
        for panel in section.panels:
            width = _WIDTH // section.side_by_side
            built.with_panel(_built(panel).id(next(ids)).span(width))
    return json.dumps(built.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _variables(
    layout: Layout,
) -> Iterator[dashboard.DatasourceVariable | dashboard.QueryVariable]:
    yield dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    yield _values_of("job", "firstseen_build_info").label("Job")
    if layout.choose:
        yield (
            _values_of(layout.choose, 'firstseen_rule_matches_total{job="$job"}')
            .label("Rule")
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )


def _values_of(label: str, selector: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(label)
        .datasource(_SOURCE)
        .query(f"label_values({selector}, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def _built(panel: Panel) -> _Built:
    if panel.number:
        built: _Built = _number(panel)
    elif panel.columns:
        built = _columns(panel)
    else:
        built = _lines(panel)
    return (
        built.title(panel.title).description(panel.description).unit(panel.unit).datasource(_SOURCE)
    )


def _number(panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .height(4)
        .thresholds(_thresholds(panel))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query(0, panel.number))
    )


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    steps = [Threshold(None, "text")]
    if panel.bad_from is not None:
        steps = [Threshold(None, "green"), Threshold(panel.bad_from, "red")]
    elif panel.bad_below is not None:
        steps = [Threshold(None, "red"), Threshold(panel.bad_below, "green")]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _lines(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .height(8)
        .min(0)
        .fill_opacity(20 if panel.stacked else 0)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    if panel.stacked:
        built.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    lines = panel.lines or _quantiles(panel.quantiles)
    for at, (legend, expression) in enumerate(lines.items()):
        built.with_target(_query(at, expression).legend_format(legend))
    return built


def _quantiles(histogram: str) -> dict[str, str]:
    rate = f'sum by (le) (rate({histogram}_bucket{{job="$job"}}[$__rate_interval]))'
    return {f"p{share * 100:g}": f"histogram_quantile({share}, {rate})" for share in _QUANTILES}


def _columns(panel: Panel) -> table.Panel:
    built = table.Panel().height(9).decimals(0)
    titles = {}
    for at, (title, expression) in enumerate(panel.columns.items()):
        built.with_target(_query(at, expression).instant().format(PromQueryFormat.TABLE))
        titles[f"Value #{_letter(at)}"] = title
    first = next(iter(panel.columns))
    for transformation, options in (
        ("merge", {}),
        ("organize", {"excludeByName": {"Time": True}, "renameByName": titles}),
        ("sortBy", {"sort": [{"field": first, "desc": True}]}),
    ):
        built.with_transformation(DataTransformerConfig(id_val=transformation, options=options))
    return built


def _query(at: int, expression: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expression).ref_id(_letter(at)).datasource(_SOURCE)


def _letter(at: int) -> str:
    """Return the name that Grafana gives to a panel's query."""
    return chr(ord("A") + at)


if __name__ == "__main__":
    for name in NAMES:
        (DIRECTORY / "dashboards" / f"{name}.json").write_text(build(name), encoding="utf-8")
