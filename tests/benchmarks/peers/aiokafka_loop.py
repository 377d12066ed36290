"""A bare aiokafka loop: is the text in the value? Nothing else."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.benchmarks.protocol import Reporter, Task

NEEDLE = b"System.Management.Automation"


async def consume(task: Task, reporter: Reporter) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=task.bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    consumed = found = 0
    reporter.start()
    consumer.assign([TopicPartition(task.topic, partition) for partition in task.ends])
    while consumed < task.count:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            consumed += len(records)
            for record in records:
                if NEEDLE in record.value:
                    found += 1
    reporter.done(consumed=consumed, found=found)
    reporter.leave()


if __name__ == "__main__":
    asyncio.run(consume(Task.from_arguments(), Reporter()))
