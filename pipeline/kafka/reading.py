"""Reads a topic without a consumer group: where it ends, which errors stop reading, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka.admin import TopicMetadata

from pipeline.config import Settings
from pipeline.errors import BrokerError
from pipeline.kafka.clients import CONNECT_TIMEOUT, interruptibly
from pipeline.kafka.visibility import check_visible

SILENCE_SECONDS: Final = 30.0
"""After this time without a record or the end of a partition, the broker counts as silent."""
_POLL_SECONDS: Final = 1.0
"""How long a Ctrl-C may take that comes while the client reports a lost connection."""


def topic_metadata(
    settings: Settings, client: Consumer | Producer, topic: str
) -> TopicMetadata | None:
    """Return a topic's metadata, or None if there is no such topic.

    The metadata of all topics is requested, because a request for one topic could create it.

    Raises:
        BrokerError: the brokers hide the topic.
        KafkaException: no broker answers; see `pipeline.kafka.clients.broker_errors`.
    """
    listed = interruptibly(lambda: client.list_topics(timeout=CONNECT_TIMEOUT))
    found = listed.topics.get(topic)
    if found is not None and found.error is None:
        return found
    check_visible(settings, [topic])
    return None


def until_end(client: Consumer, topic: str, partitions: Iterable[int]) -> Iterator[Message]:
    """Yield the records of assigned partitions up to the present end of each.

    The end is where a fetch finds nothing more (``enable.partition.eof``). The end that the broker
    lists lies further in a topic with transactions, and the last offsets of a compacted topic may
    hold no record.

    Raises:
        BrokerError: a broker refuses, or is silent for `SILENCE_SECONDS`.
    """
    unfinished, silent_seconds = set(partitions), 0.0
    while unfinished:
        with interrupts_kept():
            message = client.poll(_POLL_SECONDS)
        if message is None:
            silent_seconds += _POLL_SECONDS
            if silent_seconds >= SILENCE_SECONDS:
                raise BrokerError(f"reading {topic}: no answer for {SILENCE_SECONDS:.0f} s")
            continue
        silent_seconds = 0.0
        error = message.error()
        if error is None:
            yield message
        elif error.code() in _ENDS:
            unfinished.discard(message.partition())
        elif not is_passing(error):
            raise BrokerError(f"reading {topic}: {error.str()}")


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Raise KeyboardInterrupt where a consumer's `poll` or `consume` loses it.

    confluent-kafka swallows an exception of its callbacks, such as that of Ctrl-C while a lost
    connection is reported, and then returns NULL without one.
    """
    try:
        yield
    except SystemError as lost:
        raise KeyboardInterrupt from lost


def is_passing(error: KafkaError) -> bool:
    """Whether a consumer continues by itself after an error, or the end of a partition."""
    return error.retriable() or error.code() in _PASSING


_ENDS = frozenset(
    {
        KafkaError._PARTITION_EOF,  # noqa: SLF001
        KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001
    }
)
_PASSING = frozenset(
    {
        # librdkafka looks for the group's coordinator also on behalf of a consumer that never asks
        # for anything from its group, as all do that read through here.
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError._PARTITION_EOF,  # noqa: SLF001
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
    }
)
