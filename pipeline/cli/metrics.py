"""`firstseen metrics`: the catalogue of metrics."""

from __future__ import annotations

import click

from pipeline.cli.lazy import SuggestingGroup
from pipeline.cli.options import json_option
from pipeline.cli.output import table, write_json
from pipeline.telemetry.catalogue import CATALOGUE


@click.group(cls=SuggestingGroup)
def metrics() -> None:
    """List the metrics that a worker serves at /metrics.

    \b
    Example:
      firstseen metrics list
    """


@metrics.command("list")
@json_option
def list_metrics(as_json: bool) -> None:
    """List every metric with its type, labels and meaning."""
    if as_json:
        write_json(
            [
                {
                    "name": spec.name,
                    "type": spec.kind,
                    "labels": list(spec.labels),
                    "help": spec.help,
                }
                for spec in CATALOGUE
            ]
        )
        return
    table(
        ("NAME", "TYPE", "LABELS", "MEANING"),
        [(spec.name, spec.kind, ", ".join(spec.labels), spec.help) for spec in CATALOGUE],
    )
