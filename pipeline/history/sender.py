"""Sends the records that make workers learn, forget, hold and release."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaError, KafkaException, Message

from pipeline.config import Settings
from pipeline.engine.partition import partition_of
from pipeline.engine.wire import Change, Forget, Hold, Learn, Release, encode
from pipeline.errors import DeliveryError, TopologyError
from pipeline.kafka.clients import broker_errors, producer
from pipeline.kafka.reading import topic_metadata

# librdkafka gives up on a record at the delivery timeout, and says so a moment later.
_FLUSH_SECONDS: Final = 5.0


class Sender:
    """Writes to the observations topic; a context manager.

    Leaving the context waits until all replicas have every record.

    Attributes:
        partitions: how many partitions the topic has.
        acknowledged: the greatest offset of this sender's records in each partition.

    Raises:
        BrokerUnreachableError: no broker answers.
        TopologyError: there is no such topic.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.topics.observations
        self._producer = producer(settings)
        self._refused: KafkaError | None = None
        self.acknowledged: dict[int, int] = {}
        with broker_errors(settings, f"writing to {self._topic}"):
            found = topic_metadata(settings, self._producer, self._topic)
        if found is None:
            raise TopologyError(f"topic {self._topic} does not exist; run: firstseen topics apply")
        self.partitions = len(found.partitions)

    def learn(self, record: Learn) -> None:
        """Send what is known about one term tuple to the partition of its row.

        Raises:
            DeliveryError: an earlier record was refused.
        """
        self._produce_keyed(record.key(), encode(record))

    def forget_row(self, rule_id: str, history: str, row: bytes) -> None:
        """Request that one term tuple is forgotten; raises like `learn`."""
        self._produce_keyed(row, encode(Forget(rule_id, history, row.hex())))

    def forget_history(self, rule_id: str, history: str) -> None:
        """Request from every partition that a history is forgotten; raises like `learn`."""
        self._produce_everywhere(Forget(rule_id, history))

    def hold(self, rule_id: str, history: str) -> None:
        """Request from every partition to hold a history, so that its sightings do not count.

        Raises like `learn`.
        """
        self._produce_everywhere(Hold(rule_id, history))

    def release(self, rule_id: str, history: str) -> None:
        """Request from every partition to let a history's sightings count again.

        Raises like `learn`.
        """
        self._produce_everywhere(Release(rule_id, history))

    def observe(self, key: bytes, value: bytes) -> None:
        """Send an observation again, as JSON text; raises like `learn`."""
        self._produce_keyed(key, value)

    def flush(self) -> None:
        """Wait until all replicas have everything that was sent.

        Raises:
            DeliveryError: a record was refused, or not acknowledged in time.
        """
        seconds = self._settings.kafka.delivery_timeout.total_seconds() + _FLUSH_SECONDS
        waiting = self._producer.flush(seconds)
        self._check()
        if waiting:
            raise DeliveryError(
                f"{waiting} records for {self._topic} were not acknowledged within "
                f"{seconds:.0f} s; run the command again, doing it twice changes nothing"
            )

    def _produce_everywhere(self, change: Change) -> None:
        value = encode(change)
        for number in range(self.partitions):
            self._produce(bytes.fromhex(change.history), value, number)

    def _produce_keyed(self, key: bytes, value: bytes) -> None:
        """Produce to the partition where the workers look for the row of this key."""
        self._produce(key, value, partition_of(key, self.partitions))

    def _produce(self, key: bytes, value: bytes, partition: int) -> None:
        self._check()
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    key=key,
                    value=value,
                    partition=partition,
                    on_delivery=self._delivered,
                )
            except BufferError:  # librdkafka's queue is full: let it send
                self._producer.poll(0.1)
            except KafkaException as error:  # larger than kafka.message_max_bytes
                raise DeliveryError(f"writing to {self._topic}: {error.args[0].str()}") from error
            else:
                self._producer.poll(0)
                return

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            partition, offset = message.partition(), message.offset()
            self.acknowledged[partition] = max(offset, self.acknowledged.get(partition, offset))
        elif self._refused is None:
            self._refused = error

    def _check(self) -> None:
        if self._refused is not None:
            raise DeliveryError(f"writing to {self._topic}: {self._refused.str()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.flush()
