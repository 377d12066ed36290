"""A reader of the alerts topic that says at once what has come."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from tests.clients import client_config
from tests.deployment import Deployment

_WAIT_SECONDS = 0.05


class AlertReader(threading.Thread):
    """Reads the alerts topic from its beginning to `stop`, and hands each alert to `note`.

    Args:
        deployment: whose alerts.
        name: of its consumer group.
        fetch_wait_ms: how long a broker waits for more, at most.
    """

    def __init__(self, deployment: Deployment, name: str, *, fetch_wait_ms: int) -> None:
        super().__init__(daemon=True)
        self._enough = threading.Event()
        config = client_config(deployment.broker.bootstrap) | {
            "group.id": f"{deployment.prefix}-{name}",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": fetch_wait_ms,
        }
        self._consumer = Consumer(config)
        topic = deployment.topic("alerts")
        numbers = self._consumer.list_topics(topic, timeout=30).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, 0) for number in numbers])

    def note(self, alert: dict[str, Any], at: float) -> None:
        """Take an alert that was read at this moment (`time.monotonic`)."""
        raise NotImplementedError

    def run(self) -> None:
        while not self._enough.is_set():
            message = self._consumer.poll(_WAIT_SECONDS)
            if message is not None and message.error() is None:
                at = time.monotonic()
                self.note(json.loads(message.value()), at)
        self._consumer.close()

    def stop(self) -> None:
        self._enough.set()
        self.join()
