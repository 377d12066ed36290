"""A thread that looks, all the while, at what is committed and what has been told by then."""

from __future__ import annotations

import threading

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.chaos.verdict import Sample
from tests.deployment import Deployment
from tests.group_offsets import committed, ends

_EVERY_SECONDS = 1.0
_ANSWER_SECONDS = 3.0


class Sampler:
    """Takes samples from `start` to `stop`; a moment when the brokers do not answer is left out."""

    def __init__(self, deployment: Deployment, admin: AdminClient) -> None:
        self._admin = admin
        self._deployment = deployment
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")
        self.samples: list[Sample] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        outputs = (self._deployment.topic("alerts"), self._deployment.topic("overflow"))
        while not self._enough.wait(_EVERY_SECONDS):
            try:
                # In this order: what is committed now was acknowledged before, so it lies below
                # an end that is asked for later.
                before = committed(self._deployment, self._admin, _ANSWER_SECONDS)
                after = ends(self._deployment, *outputs, admin=self._admin, seconds=_ANSWER_SECONDS)
            except KafkaException:
                continue
            self.samples.append(Sample(before, after))
