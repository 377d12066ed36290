"""Faust as its documentation shows it: JSON values, an agent, the rule on the event, a table.

In favour of Faust its table is in memory, and it is keyed where the event came in: a deployment
would have to repartition by the term and would be slower.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import faust

from tests.benchmarks.peers.rule import matches, term
from tests.benchmarks.protocol import Reporter, Task


def build(task: Task, reporter: Reporter, finished: asyncio.Event) -> faust.App:
    app = faust.App(
        task.group,
        broker=f"kafka://{task.bootstrap}",
        value_serializer="json",
        store="memory://",
        datadir=task.directory,
        topic_partitions=len(task.ends),
        topic_replication_factor=1,
        consumer_auto_offset_reset="earliest",
        logging_config=None,
    )
    source = app.topic(task.topic, value_serializer="json")
    alerts = app.topic(task.alerts, value_serializer="json")
    seen = app.Table("seen", default=int, partitions=len(task.ends))
    counts = {"consumed": 0, "found": 0}

    @app.agent(source)
    async def detect(stream: Any) -> None:
        async for event in stream:
            if not counts["consumed"]:
                reporter.start()
            counts["consumed"] += 1
            if matches(event):
                counts["found"] += 1
                key = term(event)
                seen[key] += 1
                if seen[key] == 1:
                    await alerts.send(key=key, value=event)
            if counts["consumed"] == task.count:
                reporter.done(**counts)
                finished.set()

    return app


async def main() -> None:
    logging.disable(logging.ERROR)
    task, reporter = Task.from_arguments(), Reporter()
    finished = asyncio.Event()
    app = build(task, reporter, finished)
    app.finalize()
    await app.start()
    await finished.wait()
    reporter.leave()


if __name__ == "__main__":
    asyncio.run(main())
