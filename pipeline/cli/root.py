"""The command `firstseen` and the commands it leads to."""

from __future__ import annotations

import click

from pipeline import __version__
from pipeline.cli.exits import ReportingGroup
from pipeline.cli.lazy import LazyCommand


def _command(module: str, name: str, summary: str) -> LazyCommand:
    return LazyCommand(f"pipeline.cli.{module}", name, summary)


COMMANDS = {
    "demo": _command("demo", "demo", "See alerts within a minute: a broker, a worker, events."),
    "worker": _command("worker", "worker", "Read events from Kafka, write alerts to Kafka."),
    "replay": _command("replay", "replay", "Read events from files, write alerts to stdout."),
    "match": _command("match", "match", "Show which rules match each line of a file."),
    "query": _command("query", "query", "Check, try and explain a KQL query."),
    "rules": _command("rules", "rules", "List, check, test and show rules."),
    "topics": _command("topics", "topics", "Plan and create the Kafka topics."),
    "alerts": _command("alerts", "alerts", "Follow the alerts."),
    "history": _command("history", "history", "Inspect and change what the rules remember."),
    "dead-letters": _command(
        "dead_letters", "dead_letters", "Inspect and requeue records that failed."
    ),
    "config": _command("config", "config", "Show and check the settings."),
    "metrics": _command("metrics", "metrics", "List the metrics of a worker."),
}


@click.group(
    cls=ReportingGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 findings, 2 usage, 3 configuration, 4 cannot start, "
    "5 stopped itself, 130 interrupted.",
)
@click.version_option(__version__, message="firstseen %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
def firstseen(debug: bool) -> None:
    """Run Elastic's new_terms detection rules on Kafka, as events arrive.

    \b
    Examples:
      firstseen demo                           alerts on the screen, no Kafka needed
      firstseen replay events.ndjson.zst       the same rules over a file
      firstseen rules check my-rules/          what is wrong with my rules?
      firstseen topics apply                   create the topics ...
      firstseen worker                         ... and run
    """
