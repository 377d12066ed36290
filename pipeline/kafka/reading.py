"""Reads a topic without a consumer group: where it ends, which errors stop reading, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import TopicMetadata

from pipeline.config import Settings
from pipeline.errors import BrokerError
from pipeline.kafka.clients import CONNECT_TIMEOUT, interruptibly
from pipeline.kafka.visibility import check_visible

SILENCE_SECONDS: Final = 30.0
"""After this time without a record or the end of a partition, the broker counts as silent."""
_LOOK_AT_LEADERS: Final = (
    "check whether each partition has a leader: kafka-topics.sh --describe --topic"
)
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

    The end is the high watermark that came with the first record, or where a fetch finds nothing
    more (``enable.partition.eof``). Neither is enough alone: the watermark of a topic with
    transactions may lie further than what can be read, and the last offsets of a compacted topic
    may hold no record; and while records keep coming, no fetch finds nothing. Partitions are
    unassigned as they end, so that they do not hide the silence of the others.

    Raises:
        BrokerError: a broker refuses, or is silent for `SILENCE_SECONDS`.
    """
    unfinished = set(partitions)
    ends: dict[int, int] = {}
    for message in _answers(client, topic, unfinished):
        place = TopicPartition(topic, message.partition())
        if message.error() is None:
            if place.partition not in ends:
                # What librdkafka has from the fetch: nothing is requested here.
                _, ends[place.partition] = client.get_watermark_offsets(place, cached=True)
            end = ends[place.partition]
            if message.offset() < end:
                yield message
            if message.offset() + 1 < end:
                continue
        unfinished.discard(place.partition)
        client.incremental_unassign([place])


def _answers(client: Consumer, topic: str, unfinished: Collection[int]) -> Iterator[Message]:
    """Yield records and ends of the unfinished partitions, for as long as there are any."""
    silent_seconds = 0.0
    while unfinished:
        with interrupts_kept():
            message = client.poll(_POLL_SECONDS)
        if message is None:
            silent_seconds += _POLL_SECONDS
            if silent_seconds >= SILENCE_SECONDS:
                raise silence(f"reading {topic}", [(topic, number) for number in unfinished])
            continue
        error = message.error()
        if error is not None and error.code() not in _ENDS:
            if not is_passing(error):
                raise BrokerError(f"reading {topic}: {error.str()}")
        elif message.partition() in unfinished:
            silent_seconds = 0.0
            yield message


def silence(doing: str, places: Iterable[tuple[str, int]]) -> BrokerError:
    """Return the error for partitions of which no broker has sent anything for too long."""
    (topic, number), *others = sorted(places)
    more = f" and {len(others)} more partition{'s' if len(others) > 1 else ''}" if others else ""
    return BrokerError(
        f"{doing}: no answer for {SILENCE_SECONDS:.0f} s about {topic}[{number}]{more}; "
        f"{_LOOK_AT_LEADERS} {topic}"
    )


def check_leader(doing: str, place: TopicPartition, error: KafkaError) -> None:
    """Raise BrokerError if an error about a partition is that no broker leads it."""
    if error.code() in _LEADERLESS:
        raise BrokerError(
            f"{doing}: {place.topic}[{place.partition}]: {error.str()}; "
            f"{_LOOK_AT_LEADERS} {place.topic}"
        )


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


_LEADERLESS = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)
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
