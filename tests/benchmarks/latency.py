"""From event to alert, on Apache Kafka, with open-loop load.

    uv run python -m tests.benchmarks.latency [--rate 1000] [--seconds 60] [--share 0.01] [--json FILE]

Events are produced by the clock, whatever the worker does, so a slow worker shows as latency and not
as a lower rate (no coordinated omission). Each matching event is a new term; the latency is the time
from the moment the event was due to be produced until its alert was read from the alerts topic.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.brokers import Broker, apache_kafka
from tests.clients import client_config
from tests.deployment import Deployment
from tests.events import encode, library_event

RULE = """
[rule]
author = ["firstseen benchmarks"]
description = "The engine loaded by a program not seen on this host before; no quota in the way."
from = "now-9m"
index = ["logs-endpoint.events.library-*"]
interval = "5m"
language = "kuery"
license = "Apache-2.0"
max_signals = 1000000
name = "Latency"
risk_score = 10
rule_id = "latency"
severity = "low"
type = "new_terms"
query = 'event.category:library and dll.name:"System.Management.Automation.ni.dll"'

[rule.new_terms]
field = "new_terms_fields"
value = ["host.id", "process.executable"]
[[rule.new_terms.history_window_start]]
field = "history_window_start"
value = "now-14d"
"""


class AlertClock(threading.Thread):
    """Reads the alerts topic and notes when each event's alert arrived."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(daemon=True)
        self.arrived: dict[str, float] = {}
        self._stopped = threading.Event()
        config = client_config(deployment.broker.bootstrap) | {
            "group.id": f"{deployment.prefix}-clock",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 5,
        }
        self._consumer = Consumer(config)
        topic = deployment.topic("alerts")
        partitions = self._consumer.list_topics(topic, timeout=30).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])

    def run(self) -> None:
        while not self._stopped.is_set():
            message = self._consumer.poll(0.05)
            if message is not None and message.error() is None:
                now = time.monotonic()
                event_id = json.loads(message.value())["detection"]["event_id"]
                self.arrived.setdefault(event_id, now)
        self._consumer.close()

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def produce_by_the_clock(
    deployment: Deployment, *, rate: int, seconds: float, share: float
) -> dict[str, float]:
    """Produce at a fixed rate; return when each matching event was due."""
    producer = Producer(
        client_config(deployment.broker.bootstrap) | {"linger.ms": 5, "compression.type": "lz4"}
    )
    every = max(1, round(1 / share))
    due: dict[str, float] = {}
    start = time.monotonic()
    for number in range(int(rate * seconds)):
        at = start + number / rate
        while (wait := at - time.monotonic()) > 0:
            producer.poll(min(wait, 0.01))
        matching = number % every == 0
        event = library_event(
            number=number,
            host=f"h{number % 50}",
            executable=rf"C:\tools\{number}.exe" if matching else r"C:\Windows\app.exe",
            **({} if matching else {"dll": f"lib{number % 500}.dll"}),
        )
        if matching:
            due[event["event"]["id"]] = at
        producer.produce(deployment.input, value=encode(event))
    producer.flush(30)
    return due


def measure(*, rate: int, seconds: float, share: float) -> dict[str, float]:
    """Run it once; latencies in seconds."""
    with apache_kafka() as kafka, tempfile.TemporaryDirectory() as directory:
        rule = Path(directory) / "latency.toml"
        rule.write_text(RULE)
        deployment = Deployment(
            Broker("kafka", kafka.bootstrap),
            f"b{uuid.uuid4().hex[:8]}",
            Path(directory),
            settings={
                "FIRSTSEEN_RULES__PATHS": str(rule),
                "FIRSTSEEN_STREAM__COMMIT_INTERVAL": "1s",
            },
        )
        try:
            deployment.create_topics()
            worker = deployment.start_worker()
            worker.wait_ready()
            clock = AlertClock(deployment)
            clock.start()
            due = produce_by_the_clock(deployment, rate=rate, seconds=seconds, share=share)
            deployment.wait_drained()
            clock.stop()
            worker.stop()
        finally:
            deployment.stop_workers()
    latencies = sorted(
        clock.arrived[event] - at for event, at in due.items() if event in clock.arrived
    )
    return {
        "rate": rate,
        "seconds": seconds,
        "events": int(rate * seconds),
        "new_terms": len(due),
        "alerts": len(latencies),
        **{
            f"p{p:g}": round(latencies[int((len(latencies) - 1) * p / 100)], 4)
            for p in (50, 99, 99.9)
        },
        "max": round(latencies[-1], 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rate", type=int, default=1000, help="events a second")
    parser.add_argument("--seconds", type=float, default=60, help="how long")
    parser.add_argument("--share", type=float, default=0.01, help="share of matching events")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    arguments = parser.parse_args()
    figures = measure(rate=arguments.rate, seconds=arguments.seconds, share=arguments.share)
    text = json.dumps(figures, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return 0 if figures["alerts"] == figures["new_terms"] else 1


if __name__ == "__main__":
    sys.exit(main())
