"""A thread that looks, all the while, at what is committed and what has been told by then."""

from __future__ import annotations

import threading

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.chaos.verdict import Place, Sample
from tests.clients import client_config
from tests.deployment import Deployment

_EVERY_SECONDS = 1.0
_ANSWER_SECONDS = 3.0


class Sampler:
    """Takes samples from `start` to `stop`; a moment when the brokers do not answer is left out.

    It asks as a consumer of the group that never joins it: the admin client of librdkafka fails an
    assertion now and then (`rd_kafka_enq_once_del_source_return`) when a broker dies under a request.

    Args:
        deployment: whose workers.
        read: partitions that they commit.
        written: partitions that they write last.
    """

    def __init__(self, deployment: Deployment, read: list[Place], written: list[Place]) -> None:
        self._consumer = Consumer(
            {**client_config(deployment.broker.bootstrap), "group.id": deployment.prefix}
        )
        self._read = [TopicPartition(*place) for place in read]
        self._written = [TopicPartition(*place) for place in written]
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")
        self.samples: list[Sample] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._enough.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._enough.wait(_EVERY_SECONDS):
            try:
                # In this order: what is committed now was acknowledged before, so it lies below
                # an end that is asked for later.
                self.samples.append(Sample(self._committed(), self._ends()))
            except KafkaException:
                continue

    def _committed(self) -> dict[Place, int]:
        found = self._consumer.committed(self._read, timeout=_ANSWER_SECONDS)
        return {(p.topic, p.partition): p.offset for p in found if p.offset > 0}

    def _ends(self) -> dict[Place, int]:
        ends = {}
        for partition in self._written:
            _, end = self._consumer.get_watermark_offsets(partition, timeout=_ANSWER_SECONDS)
            ends[partition.topic, partition.partition] = int(end)
        return ends
