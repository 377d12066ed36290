"""Events that are sent evenly over the time of a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, Message, Producer

from tests.chaos.corpus import Event, Term
from tests.clients import client_config

_STEP_SECONDS = 0.05
_DELIVERY_SECONDS = 120


class Flow:
    """Sends events without keys, as Elastic Agent does, over so many seconds.

    Attributes:
        sent: when each new term was first handed to the producer, in epoch seconds.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        config = {
            **client_config(bootstrap),
            "enable.idempotence": True,
            "message.timeout.ms": _DELIVERY_SECONDS * 1000,
            "linger.ms": 20,
        }
        self._producer = Producer(config)
        self._topic = topic
        self._failed: list[KafkaError] = []
        self.sent: dict[Term, float] = {}

    def start(self, events: Sequence[Event], seconds: float) -> threading.Thread:
        """Begin to send in a thread of its own."""
        thread = threading.Thread(target=self._send, args=(events, seconds), name="flow")
        thread.start()
        return thread

    def flush(self) -> None:
        """Wait until the broker has acknowledged everything.

        Raises:
            RuntimeError: something was not, so the oracle does not hold.
        """
        waiting = self._producer.flush(_DELIVERY_SECONDS)
        if waiting or self._failed:
            raise RuntimeError(f"{waiting} events not acknowledged, failed: {self._failed[:3]}")

    def _send(self, events: Sequence[Event], seconds: float) -> None:
        begin = time.monotonic()
        done = 0
        while done < len(events):
            share = 1.0 if seconds == 0 else (time.monotonic() - begin) / seconds
            due = min(len(events), int(share * len(events)))
            for event in events[done:due]:
                self._produce(event)
            done = due
            self._producer.poll(_STEP_SECONDS)

    def _produce(self, event: Event) -> None:
        if event.new is not None:
            self.sent[event.new] = time.time()
        while True:
            try:
                self._producer.produce(self._topic, event.value, on_delivery=self._delivered)
            except BufferError:  # brokers are slow: wait until there is room
                self._producer.poll(_STEP_SECONDS)
            else:
                return

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed.append(error)
