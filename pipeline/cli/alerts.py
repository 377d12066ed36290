"""`firstseen alerts`: shows what is in the alerts topic."""

from __future__ import annotations

import click
import orjson

from pipeline.cli.alert_text import alert_text
from pipeline.cli.lazy import SuggestingGroup
from pipeline.cli.options import SettingsFlags, json_option, settings_options
from pipeline.cli.output import write_json_line
from pipeline.cli.topic_reader import TopicReader
from pipeline.terminal import printable


@click.group(cls=SuggestingGroup)
def alerts() -> None:
    """Follow the alerts.

    \b
    Examples:
      firstseen alerts tail
      firstseen alerts tail --from-beginning --json | jq .rule.name
    """


@alerts.command()
@click.option("--from-beginning", is_flag=True, help="Start with the oldest alert.")
@click.option(
    "--overflow", is_flag=True, help="Follow the overflow topic instead: alerts beyond the quota."
)
@click.option(
    "--max",
    "limit",
    metavar="N",
    type=click.IntRange(min=1),
    help="Stop after N alerts; otherwise run until Ctrl-C.",
)
@settings_options
@json_option
def tail(
    settings_flags: SettingsFlags,
    from_beginning: bool,
    overflow: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """Show alerts as they arrive; with --json, one document per line, as it is in the topic.

    The command reads without a consumer group and commits nothing: any number can run alongside
    the workers.
    """
    settings = settings_flags.load()
    topic = settings.topics.overflow if overflow else settings.topics.alerts
    with TopicReader(settings, topic, from_beginning=from_beginning) as reader:
        click.echo(f"following {topic}; Ctrl-C ends it", err=True)
        shown = 0
        while limit is None or shown < limit:
            value = reader.poll(1.0)
            if value is None:
                continue
            shown += 1
            if as_json:
                write_json_line(value)
            else:
                click.echo(show_alert(value) + "\n")


def show_alert(value: bytes) -> str:
    """Return an alert as a block of text; anything else in the topic is shown as it is."""
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict):
        return alert_text(document)
    return f"not an alert: {printable(value[:200].decode('utf-8', 'replace'))}"
