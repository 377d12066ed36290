"""A bare confluent-kafka loop: is the text in the value? Nothing else."""

from __future__ import annotations

from confluent_kafka import Consumer, TopicPartition

from tests.benchmarks.protocol import Reporter, Task

NEEDLE = b"System.Management.Automation"


def main() -> None:
    task, reporter = Task.from_arguments(), Reporter()
    consumer = Consumer(
        {
            "bootstrap.servers": task.bootstrap,
            "group.id": task.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    consumed = found = 0
    reporter.start()
    consumer.assign([TopicPartition(task.topic, partition, 0) for partition in task.ends])
    while consumed < task.count:
        messages = consumer.consume(500, timeout=0.5)
        consumed += len(messages)
        for message in messages:
            if NEEDLE in message.value():
                found += 1
    reporter.done(consumed=consumed, found=found)
    reporter.leave()


if __name__ == "__main__":
    main()
