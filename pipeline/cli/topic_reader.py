"""Reads a topic from its beginning or its end, without a consumer group."""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException, TopicPartition

from pipeline.config import Settings
from pipeline.errors import BrokerError, TopologyError
from pipeline.kafka.clients import CONNECT_TIMEOUT, broker_errors, consumer, interruptibly
from pipeline.kafka.reading import check_leader, interrupts_kept, is_passing, topic_metadata


class TopicReader:
    """All partitions of one topic, read as records arrive.

    Args:
        settings: how to connect.
        topic: the topic.
        from_beginning: whether to begin with the oldest record, or with the next one.

    Raises:
        BrokerUnreachableError: no broker answers.
        TopologyError: there is no such topic.
    """

    def __init__(self, settings: Settings, topic: str, *, from_beginning: bool) -> None:
        self._settings = settings
        self._topic = topic
        self._consumer = consumer(settings)
        try:
            with broker_errors(settings, f"reading {topic}"):
                self._consumer.assign(self._starts(from_beginning=from_beginning))
        except BrokerError:
            self._consumer.close()
            raise

    def _starts(self, *, from_beginning: bool) -> list[TopicPartition]:
        found = topic_metadata(self._settings, self._consumer, self._topic)
        if found is None:
            raise TopologyError(f"topic {self._topic} does not exist; run: firstseen topics apply")
        starts = [TopicPartition(self._topic, number) for number in found.partitions]
        for start in starts:
            # The ends are requested now. "The end" as an offset would mean the end at the first
            # poll, and skip a record that arrives in between.
            oldest, end = interruptibly(partial(self._ends, start))
            start.offset = oldest if from_beginning else end
        return starts

    def _ends(self, partition: TopicPartition) -> tuple[int, int]:
        try:
            ends: tuple[int, int] = self._consumer.get_watermark_offsets(
                partition, timeout=CONNECT_TIMEOUT
            )
        except KafkaException as error:
            check_leader(f"reading {self._topic}", partition, error.args[0])
            raise
        return ends

    def poll(self, seconds: float) -> bytes | None:
        """Return the next value; None if no record arrives in time, or it has no value.

        Raises:
            BrokerError: the broker refuses.
        """
        with interrupts_kept():
            message = self._consumer.poll(seconds)
        if message is None:
            return None
        error = message.error()
        if error is None:
            value: bytes | None = message.value()
            return value
        if is_passing(error):
            return None
        raise BrokerError(f"reading {self._topic}: {error.str()}")

    def close(self) -> None:
        """Close the connection to the brokers."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
