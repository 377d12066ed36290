"""From event to alert, with open-loop load.

    uv run python -m tests.benchmarks.latency [--rate 1000] [--seconds 60] [--share 0.001] [--json FILE]

Events are produced by the clock, whatever the worker does, so a slow worker shows as latency and not
as a lower rate (no coordinated omission). Each matching event is a new term; the latency is the time
from the moment the event was due to be produced until its alert was read from the alerts topic.

The maximum rate is that of the whole arrangement: as many events as can be produced at once go
through producer, broker and worker, and are counted over the time until the last alert is there.
Producer, broker and alert reader share one CPU, so it is theirs more often than the worker's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Producer

from pipeline.embedded.process import wait_until
from tests.benchmarks.alert_reader import AlertReader
from tests.benchmarks.command import add_without_native, command_parser, say, tell
from tests.benchmarks.firstseen import FIRSTSEEN, wait_ready
from tests.benchmarks.generator import PARTITIONS, Corpus, events
from tests.benchmarks.ground import Ground, prepared_ground
from tests.benchmarks.installation import installation_to_measure
from tests.benchmarks.measurement import UnavailableError
from tests.benchmarks.statistics import percentile, significant
from tests.clients import client_config, create_topic
from tests.deployment import Deployment
from tests.events import encode, library_event
from tests.rules import rule_text

PERCENTILES = (50, 99, 99.9)
SHARE = 0.001
RULE = rule_text(
    "latency",
    'event.category:library and dll.name:"System.Management.Automation.ni.dll"',
    interval="5m",
    max_signals=1_000_000,  # no quota in the way
    history="14d",
)
_DRAIN_SECONDS = 60.0
_BURST_EVENTS = 200_000


class AlertClock(AlertReader):
    """Notes when each event's alert arrived."""

    def __init__(self, deployment: Deployment) -> None:
        self.arrived: dict[str, float] = {}
        super().__init__(deployment, "clock", fetch_wait_ms=5)

    def note(self, alert: dict[str, Any], at: float) -> None:
        self.arrived.setdefault(alert["detection"]["event_id"], at)


@dataclass
class Load:
    """Produces events, of which each so-manyth is a new term; made beforehand, so that it keeps up.

    Attributes:
        bootstrap: the broker.
        topic: the input.
        share: of the events that match.
    """

    bootstrap: str
    topic: str
    share: float

    def __post_init__(self) -> None:
        self._noise = list(events(Corpus(20_000, seed=7, share=0.0)))
        self._every = max(1, round(1 / self.share))
        self._number = 0

    def produce(self, *, rate: float | None, count: int) -> dict[str, float]:
        """Produce `count` events at a fixed rate, or at once; return when each match was due."""
        producer = Producer(
            client_config(self.bootstrap)
            | {
                "linger.ms": 5,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 2_000_000,
            }
        )
        matching = self._matching(count)
        due: dict[str, float] = {}
        start = time.monotonic()
        for number in range(count):
            at = start if rate is None else start + number / rate
            while (wait := at - time.monotonic()) > 0:
                # poll() counts in whole milliseconds: with less it would not wait but spin, on the
                # CPU of the broker and of the reader of alerts.
                time.sleep(min(wait, 0.01))
                producer.poll(0)
            match = matching.get(number)
            if match is None:
                producer.produce(self.topic, self._noise[number % len(self._noise)])
            else:
                event_id, value = match
                due[event_id] = at
                producer.produce(self.topic, value)
            if number % 256 == 0:
                producer.poll(0)
        producer.flush(30)
        return due

    def _matching(self, count: int) -> dict[int, tuple[str, bytes]]:
        found = {}
        for number in range(0, count, self._every):
            self._number += 1
            event = library_event(
                number=self._number,
                host=f"h{self._number % 50}",
                executable=rf"C:\tools\{self._number}.exe",
            )
            found[number] = (event["event"]["id"], encode(event))
        return found


class LatencyBench:
    """One worker under load; `measure` it at one rate after another."""

    def __init__(self, ground: Ground, deployment: Deployment, share: float) -> None:
        self._ground = ground
        self._load = Load(ground.bootstrap, deployment.settings[_INPUT], share)
        self._clock = AlertClock(deployment)
        self._clock.start()

    def maximum_rate(self, count: int = _BURST_EVENTS) -> float:
        """Return events a second of a burst, from the first event to the last alert."""
        begin = time.monotonic()
        due = self._load.produce(rate=None, count=count)
        self._wait_for(due)
        return count / (max(self._clock.arrived[event] for event in due) - begin)

    def measure(self, *, rate: float, seconds: float) -> dict[str, float]:
        """Return the percentiles of latency, in seconds, at one rate."""
        due = self._load.produce(rate=rate, count=int(rate * seconds))
        self._wait_for(due)
        latencies = sorted(self._clock.arrived[event] - at for event, at in due.items())
        figures = {f"p{p:g}": round(percentile(latencies, p), 4) for p in PERCENTILES}
        return {
            "rate": significant(rate),
            "seconds": seconds,
            "events": int(rate * seconds),
            "new_terms": len(due),
            **figures,
            "max": round(latencies[-1], 4),
        }

    def stop(self) -> None:
        self._clock.stop()

    def _wait_for(self, due: dict[str, float]) -> None:
        arrived = self._clock.arrived
        if not wait_until(
            lambda: due.keys() <= arrived.keys(), seconds=self._ground.seconds(_DRAIN_SECONDS)
        ):
            missing = len(due.keys() - arrived.keys())
            raise UnavailableError(f"{missing} of {len(due)} alerts did not come in time")


_INPUT = "FIRSTSEEN_TOPICS__INPUTS"


@contextmanager
def running_bench(ground: Ground, share: float = SHARE) -> Iterator[LatencyBench]:
    """Yield a bench whose worker is ready and warm."""
    topic = ground.new_group("latency")
    create_topic(ground.bootstrap, topic, partitions=PARTITIONS)
    with ground.folder() as directory:
        rule = directory / "latency.toml"
        rule.write_text(RULE)
        settings = {"FIRSTSEEN_RULES__PATHS": str(rule), "FIRSTSEEN_STREAM__COMMIT_INTERVAL": "1s"}
        with FIRSTSEEN.deployed(ground, topic, settings) as deployment:
            (worker,) = FIRSTSEEN.start(ground, deployment)
            wait_ready(ground, worker)
            bench = LatencyBench(ground, deployment, share)
            try:
                bench.measure(rate=500, seconds=2)
                yield bench
            finally:
                bench.stop()


def measure_latency(
    ground: Ground, loads: Sequence[float], seconds: float
) -> dict[str, dict[str, float]]:
    """Return figures by load, as "50%", and the maximum rate they are shares of."""
    with running_bench(ground) as bench:
        maximum = bench.maximum_rate()
        figures = {"maximum": {"rate": significant(maximum)}}
        for load in loads:
            figures[f"{100 * load:g}%"] = bench.measure(rate=load * maximum, seconds=seconds)
        return figures


def main() -> int:
    parser = command_parser("latency", __doc__)
    parser.add_argument("--rate", type=int, default=1000, help="events a second")
    parser.add_argument("--seconds", type=float, default=60, help="how long")
    parser.add_argument("--share", type=float, default=SHARE, help="share of matching events")
    add_without_native(parser)
    arguments = parser.parse_args()
    installation = installation_to_measure(say, without_native=arguments.without_native)
    with (
        prepared_ground(arguments.seconds + 300, installation) as ground,
        running_bench(ground, arguments.share) as bench,
    ):
        figures = bench.measure(rate=arguments.rate, seconds=arguments.seconds)
    tell(figures, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
