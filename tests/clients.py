"""Kafka clients for the tests: make a topic, put records in, read everything out."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

SECONDS = 30.0

_SILENT = logging.getLogger("tests.clients.librdkafka")
_SILENT.setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class Sent:
    """A record to produce.

    Attributes:
        partition: -1 leaves the choice to the client.
        timestamp_ms: what the record claims to be of; None: now. -1 is Kafka's sign for none.
    """

    value: bytes | None
    key: bytes | None = None
    partition: int = -1
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    timestamp_ms: int | None = None


def client_config(bootstrap: str) -> dict[str, object]:
    """What every client of a test has in common; its log lines do not reach stderr."""
    return {"bootstrap.servers": bootstrap, "logger": _SILENT}


def create_topic(
    bootstrap: str, name: str, *, partitions: int = 1, configs: Mapping[str, str] | None = None
) -> None:
    """Create a topic with the cluster's replication and wait until it can be written."""
    admin = AdminClient(client_config(bootstrap))
    topic = NewTopic(name, partitions, -1, config=dict(configs or {}))
    admin.create_topics([topic])[name].result(SECONDS)
    # The controller has it then; the broker that is asked next may not know of it yet.
    while len(admin.list_topics(name, timeout=SECONDS).topics[name].partitions) < partitions:
        time.sleep(0.02)


def produce(bootstrap: str, topic: str, records: Iterable[Sent | bytes]) -> None:
    """Produce the records in order and wait until every one is acknowledged by all replicas."""
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer(
        {
            **client_config(bootstrap),
            "enable.idempotence": True,
            "message.max.bytes": 8_000_000,
            "message.timeout.ms": int(SECONDS * 1000),
        }
    )
    for record in records:
        sent = record if isinstance(record, Sent) else Sent(record)
        producer.produce(
            topic,
            value=sent.value,
            key=sent.key,
            partition=sent.partition,
            headers=sent.headers,
            timestamp=0 if sent.timestamp_ms is None else sent.timestamp_ms,  # 0: the client's now
            on_delivery=delivered,
        )
        producer.poll(0)
    waiting = producer.flush(SECONDS)
    if waiting or failed:
        raise RuntimeError(f"{waiting} records of {topic} not acknowledged, failed: {failed[:3]}")


def read_all(bootstrap: str, topic: str, *, committed_only: bool = True) -> list[Message]:
    """Every record of the topic up to its end now, partition by partition in offset order.

    The end is what fetches answer with, since the embedded broker's ListOffsets falls short of it.
    """
    config = {
        **client_config(bootstrap),
        "group.id": f"{topic}-read-all",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed" if committed_only else "read_uncommitted",
        # The end of a partition is told when a fetch has found nothing for so long.
        "fetch.wait.max.ms": 10,
    }
    consumer = Consumer(config)
    try:
        partitions = consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        return _read_to_end(consumer, set(partitions))
    finally:
        consumer.close()


def _read_to_end(consumer: Consumer, open_partitions: set[int]) -> list[Message]:
    messages: list[Message] = []
    deadline = time.monotonic() + SECONDS
    while open_partitions:
        if time.monotonic() > deadline:
            raise TimeoutError(f"partitions {sorted(open_partitions)} have no end in sight")
        message = consumer.poll(1.0)
        if message is None:
            continue
        error = message.error()
        if error is None:
            messages.append(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            open_partitions.discard(message.partition())
        else:
            raise RuntimeError(f"cannot read: {error}")
    return sorted(messages, key=lambda message: (message.partition(), message.offset()))
