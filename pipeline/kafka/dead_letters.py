"""The dead letter topic as a store: read all of it, read one, write some back to where they failed.

A letter is named by its place in the topic, ``partition@offset``: that does not change as long as
the letter exists. Whoever writes a letter back leaves a note in the topic, a record without value
whose headers name the place, so that nobody does the same twice by accident. Notes go with their
letters when the topic's retention deletes them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from operator import methodcaller
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from pipeline.config import Settings
from pipeline.engine.partition import partition_of
from pipeline.errors import DecodeError, DeliveryError, TopologyError
from pipeline.kafka.clients import CONNECT_TIMEOUT, broker_errors, consumer, producer
from pipeline.kafka.headers import (
    DeadLetter,
    note_headers,
    noted_place,
    parse_dead_letter,
    requeue_headers,
)
from pipeline.kafka.reading import topic_metadata, until_end
from pipeline.record import Headers

_BATCH_RECORDS = 500
_BATCH_BYTES = 16 << 20
_PLACE = re.compile(r"(\d{1,9})@(\d{1,18})")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a letter stands in the dead letter topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}@{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """Return the place that ``partition@offset`` names; None for other texts."""
        found = _PLACE.fullmatch(text)
        return cls(int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A letter of the topic.

    Attributes:
        place: its place.
        letter: what it says. In a `Survey`, without key, value and headers of the record.
        size: bytes of the record's value.
        requeued: how often it was written back.
        repeats: places of earlier letters that say the same.
    """

    place: Place
    letter: DeadLetter
    size: int
    requeued: int = 0
    repeats: tuple[Place, ...] = ()

    def refusal(self, settings: Settings) -> str | None:
        """Return why it cannot be written back, or None."""
        if self.letter.truncated:
            return "it was too large for the dead letter topic and lost its end"
        if self.letter.code == "unreadable_batch":
            return "it is a batch of records that nobody could read, and no record"
        topic = self.letter.position.topic
        # Headers can be written by anybody who may write to the topic: they do not lead elsewhere.
        if topic not in _read_by_workers(settings):
            return f"{topic} is no topic that these workers read"
        return None


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in the topic.

    Attributes:
        letters: the letters, oldest failure first; of one failure that was written again, the last.
        foreign: how many records are none of ours.
        repeated: how many letters were written again: a worker that stops itself commits nothing,
            so the next one reads the same records.
    """

    letters: tuple[StoredLetter, ...]
    foreign: int
    repeated: int = 0


@dataclass(slots=True)
class Requeued:
    """What became of the letters that were to be written back."""

    written: list[StoredLetter] = field(default_factory=list)
    refused: list[tuple[StoredLetter, str]] = field(default_factory=list)


def survey(settings: Settings) -> Survey:
    """Read the whole topic, as far as it goes now.

    Raises:
        BrokerError: no broker answers, or there is no such topic.
    """
    letters: list[StoredLetter] = []
    notes: Counter[str] = Counter()
    foreign = 0
    for place, message in _records(settings):
        headers = _headers(message)
        noted = noted_place(headers)
        if noted is not None:
            notes[noted] += 1
            continue
        try:
            letter = parse_dead_letter(None, None, headers)
        except DecodeError:
            foreign += 1
            continue
        letters.append(
            StoredLetter(place, replace(letter, headers=()), len(message.value() or b""))
        )
    letters.sort(key=lambda stored: (stored.letter.failed_at, stored.place))
    latest: dict[tuple[object, ...], StoredLetter] = {}
    for stored in letters:
        letter = stored.letter
        # Of a topic that was made anew, another record may have the same position.
        failure = letter.position, letter.timestamp_ms, stored.size, letter.attempt, letter.code
        before = latest.pop(failure, None)
        latest[failure] = replace(
            stored,
            requeued=notes[str(stored.place)] + (before.requeued if before else 0),
            repeats=(*before.repeats, before.place) if before else (),
        )
    return Survey(tuple(latest.values()), foreign, len(letters) - len(latest))


def fetch(settings: Settings, place: Place) -> DeadLetter | None:
    """Return the whole letter at a place; None when there is none.

    Raises:
        BrokerError: no broker answers, or there is no such topic.
    """
    found = next(iter(_letters_at(settings, {place})), None)
    return None if found is None else found[1]


def requeue(
    settings: Settings,
    letters: Collection[StoredLetter],
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Requeued:
    """Write letters back to the topic and partition where they failed, and note each.

    Key, value and headers are the record's own, and `firstseen.attempt`. The timestamp is that of
    now: a record as old as it was could be deleted by the topic's retention before it is read.

    Args:
        settings: how to connect, and the topics that may be written.
        letters: which ones.
        progress: called after each batch with the number of letters that are through.

    Raises:
        BrokerError: no broker answers, or there is no such topic.
        DeliveryError: a record was not acknowledged; some may have been written.
    """
    done = Requeued()
    wanted: dict[Place, StoredLetter] = {}
    for stored in letters:
        reason = stored.refusal(settings)
        if reason is None:
            wanted[stored.place] = stored
        else:
            done.refused.append((stored, reason))
    if not wanted:
        return done
    writer = _Writer(settings, done)
    for number, (place, letter) in enumerate(_letters_at(settings, wanted), start=1):
        writer.write(wanted[place], letter)
        if writer.is_full:
            writer.settle()
            progress(number)
    writer.settle()
    gone = wanted.keys() - {stored.place for stored in done.written}
    gone -= {stored.place for stored, _ in done.refused}
    done.refused += [(wanted[place], "it is not in the topic any more") for place in sorted(gone)]
    return done


class _Writer:
    """Writes letters back; notes a batch when all of it is acknowledged."""

    def __init__(self, settings: Settings, done: Requeued) -> None:
        self._settings = settings
        self._done = done
        self._producer: Producer = producer(settings)
        self._partitions = self._count_partitions()
        self._waiting: list[StoredLetter] = []
        self._errors: list[tuple[StoredLetter | None, KafkaError]] = []

    def _count_partitions(self) -> Mapping[str, int]:
        with broker_errors(self._settings, "listing the topics"):
            topics = self._producer.list_topics(timeout=CONNECT_TIMEOUT).topics
        return {name: len(topic.partitions) for name, topic in topics.items()}

    @property
    def is_full(self) -> bool:
        """Whether it is time to settle."""
        size = sum(stored.size for stored in self._waiting)
        return len(self._waiting) >= _BATCH_RECORDS or size >= _BATCH_BYTES

    def write(self, stored: StoredLetter, letter: DeadLetter) -> None:
        """Send one letter to its topic; one that cannot go there is refused."""
        topic, partition = letter.position.topic, letter.position.partition
        if topic not in self._partitions:
            self._done.refused.append((stored, f"the topic {topic} does not exist"))
            return
        headers: Headers = requeue_headers(letter)
        count = self._partitions[topic]
        if partition >= count:  # the topic was made anew, with fewer
            partition = partition_of(letter.key or b"", count)
        try:
            self._produce(
                stored,
                topic,
                key=letter.key,
                value=letter.value,
                headers=list(headers),
                partition=partition,
            )
        except KafkaException as error:
            self._done.refused.append((stored, error.args[0].str()))
        else:
            self._waiting.append(stored)

    def settle(self) -> None:
        """Wait for the letters written, then note them, then wait for the notes.

        Raises:
            DeliveryError: a record was not acknowledged.
        """
        self._flush()
        failed = {stored.place: error for stored, error in self._errors if stored is not None}
        written = [stored for stored in self._waiting if stored.place not in failed]
        refused = [stored for stored in self._waiting if stored.place in failed]
        self._waiting.clear()
        self._errors.clear()
        self._done.refused += [(each, failed[each.place].str()) for each in refused]
        now = datetime.now(UTC)
        for stored in written:
            self._produce(
                None,
                self._settings.topics.dead_letters,
                value=None,
                headers=list(note_headers(str(stored.place), now)),
                partition=stored.place.partition,
            )
        self._done.written += written
        self._flush()
        if self._errors:
            reason = self._errors[0][1].str()
            raise DeliveryError(
                f"{len(self._done.written)} records were requeued, but it could not be noted of "
                f"all of them in {self._settings.topics.dead_letters}: {reason}"
            )

    def _produce(self, stored: StoredLetter | None, topic: str, **record: Any) -> None:
        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                self._errors.append((stored, error))

        self._producer.produce(topic, on_delivery=delivered, **record)
        self._producer.poll(0)

    def _flush(self) -> None:
        limit = self._settings.kafka.delivery_timeout + timedelta(seconds=5)
        waiting = self._producer.flush(limit.total_seconds())
        if waiting:
            raise DeliveryError(
                f"{waiting} records were not acknowledged; {len(self._done.written)} were requeued"
            )


def _letters_at(
    settings: Settings, places: Collection[Place]
) -> Iterator[tuple[Place, DeadLetter]]:
    """Yield the whole letters at these places, in the order of the topic."""
    starts: dict[int, int] = {}
    for place in places:
        starts[place.partition] = min(place.offset, starts.get(place.partition, place.offset))
    left = set(places)
    for place, message in _records(settings, starts):
        if place not in left:
            continue
        left.discard(place)
        headers = _headers(message)
        if noted_place(headers) is None:
            try:
                yield place, parse_dead_letter(message.key(), message.value(), headers)
            except DecodeError:
                continue
        if not left:
            return


def _records(
    settings: Settings, starts: Mapping[int, int] | None = None
) -> Iterator[tuple[Place, Message]]:
    """Yield every record up to the present end, without a consumer group.

    Args:
        settings: how to connect.
        starts: first offset of each partition to read; None for all of all partitions.
    """
    topic = settings.topics.dead_letters
    # Retention may have deleted some since they were listed: reading begins behind them.
    client: Consumer = consumer(settings, enable_partition_eof=True, auto_offset_reset="earliest")
    try:
        with broker_errors(settings, f"reading {topic}"):
            assigned = _assignment(settings, client, starts)
            if not assigned:
                return
            client.assign(assigned)
        for message in until_end(client, topic, [each.partition for each in assigned]):
            yield Place(message.partition(), message.offset()), message
    finally:
        client.close()


def _assignment(
    settings: Settings, client: Consumer, starts: Mapping[int, int] | None
) -> list[TopicPartition]:
    topic = settings.topics.dead_letters
    found = topic_metadata(settings, client, topic)
    if found is None:
        raise TopologyError(f"topic {topic} does not exist; run: firstseen topics apply")
    if starts is None:
        return [TopicPartition(topic, number, OFFSET_BEGINNING) for number in found.partitions]
    return [
        TopicPartition(topic, number, offset)
        for number, offset in starts.items()
        if number in found.partitions
    ]


def _read_by_workers(settings: Settings) -> frozenset[str]:
    topics = settings.topics
    return frozenset({*topics.inputs, topics.observations, topics.new_terms})


def _headers(message: Message) -> Headers:
    """Return a record's headers; none of a stranger's whose names are no text."""
    try:
        headers = _get_headers(message)
    except (SystemError, UnicodeError):
        return ()
    return tuple((name, raw or b"") for name, raw in headers or ())


# confluent-kafka returns a list with a hole in it, and a UnicodeDecodeError on top, where the name
# of a header is no UTF-8. Python 3.11 does not look for that when it calls a method that it has
# called often, and the error comes up somewhere else; methodcaller always looks.
_get_headers = methodcaller("headers")
