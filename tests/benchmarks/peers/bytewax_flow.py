"""Bytewax as its documentation shows it: Kafka input, JSON, filter, keyed state."""

from __future__ import annotations

import json
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.connectors.stdio import StdOutSink
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main
from confluent_kafka import OFFSET_BEGINNING

from tests.benchmarks.peers.rule import matches, term
from tests.benchmarks.protocol import Reporter, Task


def main() -> None:
    task, reporter = Task.from_arguments(), Reporter()
    counts = {"consumed": 0, "found": 0}

    def detect(message: KafkaSourceMessage) -> dict[str, Any] | None:
        if not counts["consumed"]:
            reporter.start()
        counts["consumed"] += 1
        event: dict[str, Any] = json.loads(message.value)
        return event if matches(event) else None

    def first_seen(state: int | None, _: dict[str, Any]) -> tuple[int, bool]:
        counts["found"] += 1
        return 1, state is None

    flow = Dataflow("first-seen")
    source = KafkaSource(
        [task.bootstrap],
        [task.topic],
        tail=False,
        starting_offset=OFFSET_BEGINNING,
        batch_size=1000,
    )
    found = op.filter_map("detect", op.input("events", flow, source), detect)
    decided = op.stateful_map("first-seen", op.key_on("term", found, term), first_seen)
    nothing = op.filter("none", decided, lambda _: False)
    op.output("out", op.map("text", nothing, str), StdOutSink())
    run_main(flow)
    reporter.done(**counts)
    reporter.leave()


if __name__ == "__main__":
    main()
