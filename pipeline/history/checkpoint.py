"""How far a backfill has come: kept in Kafka, as the committed offsets of a group of its own.

The group is named after the workers' group and the history. The committed offset of an input
partition is the next one to read; the metadata beside it says the rest, as a line of JSON. So a
backfill goes on from any machine, and nobody but the brokers keeps anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Final

import msgspec
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition

from pipeline.config import Settings
from pipeline.errors import BrokerError, StateError
from pipeline.kafka.clients import CONNECT_TIMEOUT, admin_client, broker_errors

FORMAT: Final = 1

Input = tuple[str, int]
"""Topic and partition."""


class Phase(StrEnum):
    """What is to be done next."""

    HOLD = "hold"
    LEARN = "learn"
    RELEASE = "release"
    TELL = "tell"
    DONE = "done"


@dataclass(slots=True)
class Part:
    """One input partition. Offsets.

    Attributes:
        start: where learning begins.
        handover: what lies before is learned, what lies at it or after is told.
        position: the next one to read.
        until: where telling ends: what comes later, the workers judge themselves. None as long as
            the history is held.
    """

    start: int
    handover: int
    position: int
    until: int | None = None


@dataclass(slots=True)
class Checkpoint:
    """The whole state of a backfill. Times are epoch milliseconds.

    Attributes:
        phase: what is to be done next.
        since_ms: records older than that are not learned from.
        begun_ms: when it was begun.
        ended_ms: when it was done, None until then.
        parts: the input partitions.
    """

    phase: Phase
    since_ms: int
    begun_ms: int
    parts: dict[Input, Part]
    ended_ms: int | None = None


class _Metadata(msgspec.Struct, frozen=True):
    format: int
    phase: Phase
    since_ms: int
    begun_ms: int
    ended_ms: int | None
    start: int
    handover: int
    until: int | None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Metadata)


def backfill_group(group_id: str, history: str) -> str:
    """Return the consumer group that keeps the checkpoint of a history's backfill."""
    return f"{group_id}-backfill-{history}"


def groups_with_offsets(settings: Settings, groups: Iterable[str]) -> dict[str, dict[Input, int]]:
    """Return what consumer groups have committed; those that have nothing are left out.

    Raises:
        BrokerError: the brokers do not say.
    """
    # Kept until the answers are there: they would be dropped with the client.
    admin = admin_client(settings)
    doing = "reading what consumer groups have committed"
    with broker_errors(settings, doing):
        asked = [
            admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
            for group in groups
        ]
        found = {}
        for group, answer in chain.from_iterable(each.items() for each in asked):
            try:
                committed = answer.result(CONNECT_TIMEOUT).topic_partitions or ()
            except TimeoutError as error:
                raise BrokerError(f"{doing}: no answer for {CONNECT_TIMEOUT:.0f} s") from error
            offsets = {(p.topic, p.partition): p.offset for p in committed if p.offset >= 0}
            if offsets:
                found[group] = offsets
    return found


class CheckpointStore:
    """Reads and writes the checkpoint of one backfill.

    Args:
        settings: for the messages of errors.
        client: a consumer of the backfill's group.
    """

    def __init__(self, settings: Settings, client: Consumer) -> None:
        self._settings = settings
        self._client = client

    def load(self, inputs: list[Input]) -> Checkpoint | None:
        """Return what was saved last; None if nothing was, or the brokers have dropped it.

        A partition that was added since is told from its beginning.

        Raises:
            BrokerError: the brokers do not say.
            StateError: it was saved by a newer firstseen.
        """
        with broker_errors(self._settings, "reading how far the backfill has come"):
            committed = self._client.committed(
                [TopicPartition(topic, number) for topic, number in inputs], CONNECT_TIMEOUT
            )
        found = {
            (each.topic, each.partition): (each.offset, _read(each.metadata))
            for each in committed
            if each.offset >= 0
        }
        if not found:
            return None
        parts = {
            place: Part(meta.start, meta.handover, offset, meta.until)
            for place, (offset, meta) in found.items()
        }
        for place in set(inputs) - set(parts):
            parts[place] = Part(0, 0, 0)
        _, latest = next(iter(found.values()))
        return Checkpoint(latest.phase, latest.since_ms, latest.begun_ms, parts, latest.ended_ms)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; raises BrokerError."""
        offsets = [
            TopicPartition(
                topic,
                number,
                part.position,
                metadata=_encoder.encode(
                    _Metadata(
                        FORMAT,
                        checkpoint.phase,
                        checkpoint.since_ms,
                        checkpoint.begun_ms,
                        checkpoint.ended_ms,
                        part.start,
                        part.handover,
                        part.until,
                    )
                ).decode(),
            )
            for (topic, number), part in checkpoint.parts.items()
        ]
        with broker_errors(self._settings, "writing how far the backfill has come"):
            self._client.commit(offsets=offsets, asynchronous=False)


def _read(metadata: str | None) -> _Metadata:
    try:
        read = _decoder.decode((metadata or "").encode())
    except ValueError as error:
        raise StateError(f"the checkpoint of the backfill cannot be read: {error}") from error
    if read.format != FORMAT:
        raise StateError(
            f"the checkpoint of the backfill has format {read.format}, this version reads "
            f"{FORMAT}: use a version of firstseen at least as new as the one that began it"
        )
    return read
