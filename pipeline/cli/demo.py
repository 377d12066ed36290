"""`firstseen demo`: the whole product on this machine, to try it out."""

from __future__ import annotations

import itertools
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click
import orjson
from confluent_kafka import KafkaException

from pipeline.cli.alerts import show_alert
from pipeline.cli.demo_stack import DemoStack, demo_stack
from pipeline.cli.loading import load_rules_to_run
from pipeline.cli.options import EVENTS_FILE, rules_option
from pipeline.cli.status_line import StatusLine
from pipeline.cli.topic_reader import TopicReader
from pipeline.cli.worker_page import Counters
from pipeline.embedded.sample import sample_events
from pipeline.errors import DeliveryError
from pipeline.kafka.clients import producer
from pipeline.kql import FieldTable
from pipeline.replay import read_events

_EVENTS_PER_SECOND = 50
_SAMPLE_EVENTS = 500
_TICK_SECONDS = 0.1
_SETTLE_SECONDS = 120.0
_CALM_LOOKS = 3


@click.command()
@click.option(
    "--events",
    "events_file",
    metavar="FILE",
    type=EVENTS_FILE,
    help="Play events from a file (NDJSON, .gz, .zst, -) instead of made-up ones.",
)
@rules_option
@click.option("--once", is_flag=True, help="Play the events once, as fast as possible, then exit.")
@click.option(
    "--rate",
    metavar="N",
    type=click.IntRange(min=1),
    help=f"Events per second; default: {_EVENTS_PER_SECOND}.",
)
def demo(
    events_file: Path | None, rule_paths: tuple[Path, ...], once: bool, rate: int | None
) -> None:
    """Start a broker and a worker on this machine, play events, show the alerts.

    The broker is embedded and keeps everything in memory; you need no Kafka, Java or Docker. The
    events come from an invented fleet, in which now and then a program loads the PowerShell engine
    that should not. Ctrl-C stops everything and leaves nothing behind.

    \b
    Examples:
      firstseen demo
      firstseen demo --events events.ndjson.zst --once
    """
    load_rules_to_run(
        rule_paths, FieldTable.builtin()
    )  # reports what is wrong with the user's own rules
    signal.signal(signal.SIGTERM, _terminate)
    status = StatusLine()
    status.show("starting a broker and a worker ...")
    began = time.monotonic()
    with demo_stack(rule_paths) as stack:
        topic = stack.settings.topics.alerts
        with TopicReader(stack.settings, topic, from_beginning=True) as alerts:
            values = _values(events_file, once=once)
            pace = rate or (None if once else _EVENTS_PER_SECOND)
            _Demo(stack, alerts, status, began).play(values, pace, once=once)


def _terminate(number: int, _: object) -> NoReturn:
    # As an exception, so that everything is stopped and removed on the way out.
    sys.exit(128 + number)


def _values(events_file: Path | None, *, once: bool) -> Iterator[bytes]:
    if events_file is not None:
        return (value for _, _, value in read_events([events_file]))
    events = sample_events(iter(lambda: datetime.now(UTC), None))
    return map(orjson.dumps, itertools.islice(events, _SAMPLE_EVENTS) if once else events)


class _Demo:
    """Plays events into the stack and shows what comes out."""

    def __init__(
        self, stack: DemoStack, alerts: TopicReader, status: StatusLine, began: float
    ) -> None:
        self._stack = stack
        self._alerts = alerts
        self._status = status
        self._began = began
        self._producer = producer(stack.settings)
        self._ready = False
        self._sent = 0
        self._shown = 0
        self._counters: Counters | None = None
        self._looked = 0.0
        self._calm = 0

    def play(self, values: Iterator[bytes], rate: int | None, *, once: bool) -> None:
        """Play all values at a rate (None: as fast as possible); then show more alerts, or end."""
        started = time.monotonic()
        if rate is None:
            for value in values:
                self._send(value)
        else:
            for value in values:
                self._send(value)
                while time.monotonic() - started < self._sent / rate:
                    self._show(min(_TICK_SECONDS, self._sent / rate))
        self._producer.flush()
        if once:
            self._settle()
            self._status.end()
            return
        while True:
            self._show(_TICK_SECONDS)

    def _send(self, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(self._stack.settings.topics.inputs[0], value)
            except BufferError:
                self._producer.poll(_TICK_SECONDS)
            except KafkaException as error:  # larger than a record may be
                reason = error.args[0].str()
                self._status.say(
                    f"an event of {len(value):,} bytes is not sent: {reason}", err=True
                )
                return
            else:
                self._sent += 1
                self._producer.poll(0)
                return

    def _show(self, seconds: float) -> None:
        """Show an alert that has arrived, or wait a moment for one."""
        value = self._alerts.poll(seconds)
        if value is not None:
            self._shown += 1
            self._status.say(show_alert(value) + "\n")
        if time.monotonic() - self._looked > 1:
            self._look()

    def _look(self) -> None:
        """Check whether the worker is alive and how far it is; called about once a second."""
        self._looked = time.monotonic()
        self._stack.check()
        if not self._ready and self._stack.page.ready():
            self._ready = True
            seconds = self._looked - self._began
            self._status.say(
                f"worker ready after {seconds:.1f} s, metrics at {self._stack.page.url}/metrics; "
                "Ctrl-C stops everything",
                err=True,
            )
        self._counters = self._stack.page.counters()
        if self._ready and self._counters is not None:
            self._status.show(_line(self._sent, self._counters))
        self._calm = self._calm + 1 if self._is_through() else 0

    def _settle(self) -> None:
        """Show alerts until every event has been processed.

        Raises:
            DeliveryError: that did not happen within two minutes.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        # The lag is a sample, up to a second older than the counters, so a single look could
        # mislead.
        while self._calm < _CALM_LOOKS:
            if time.monotonic() > deadline:
                raise DeliveryError(
                    f"after {_SETTLE_SECONDS:.0f} s not every event is processed: {self._counters}"
                )
            self._show(_TICK_SECONDS)

    def _is_through(self) -> bool:
        counters = self._counters
        return (
            counters is not None
            and counters.records >= self._sent
            and counters.settled
            and self._shown >= counters.alerts + counters.summaries
        )


def _line(sent: int, counters: Counters) -> str:
    overflow = f" · {counters.overflow:,} over the quota" if counters.overflow else ""
    return (
        f"{sent:,} events sent · {counters.records:,} read · {counters.matched:,} matched · "
        f"{counters.new_terms:,} new terms · {counters.alerts:,} alerts{overflow} · "
        f"{counters.dead_letters:,} dead letters"
    )
