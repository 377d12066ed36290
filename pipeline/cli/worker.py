"""`firstseen worker`: the process that compose and Kubernetes run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.exits import log_start_errors
from pipeline.cli.lazy import importing
from pipeline.cli.options import SettingsFlags, rules_option, settings_options

if TYPE_CHECKING:
    from pipeline.config import Settings


@click.command()
@rules_option
@settings_options
@click.option("--embedded", is_flag=True, hidden=True, help="Run on the embedded broker.")
def worker(settings_flags: SettingsFlags, rule_paths: tuple[Path, ...], embedded: bool) -> int:
    """Read events from Kafka, remember terms, write alerts to Kafka; run until stopped.

    The topics must exist: `firstseen topics apply` creates them. On SIGTERM or Ctrl-C, the worker
    finishes what it has begun, commits and stops. Metrics and health are on http://127.0.0.1:9100.

    \b
    Examples:
      firstseen worker
      firstseen worker --rules my-rules/ --set kafka.bootstrap_servers=kafka-1:9092
      FIRSTSEEN_WEB__PORT=9101 firstseen worker --config firstseen.yml
    """
    log_start_errors()
    return _run(settings_flags.load(rules__paths=rule_paths or None), embedded=embedded)


def _run(settings: Settings, *, embedded: bool) -> int:
    # Faust takes a second to import, which help and wrong settings need not wait for.
    with importing():
        from pipeline.cli.worker_rules import load_worker_rules  # noqa: PLC0415
        from pipeline.embedded.highwater import EmbeddedTransport  # noqa: PLC0415
        from pipeline.stream.transport import Transport  # noqa: PLC0415
        from pipeline.stream.worker import Worker  # noqa: PLC0415
        from pipeline.telemetry.metrics import Metrics  # noqa: PLC0415

    metrics = Metrics()
    ruleset = load_worker_rules(settings, metrics)
    transport = EmbeddedTransport if embedded else Transport

    async def run() -> int:
        return await Worker(settings, ruleset, metrics, transport_class=transport).run()

    return asyncio.run(run())
