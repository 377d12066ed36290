"""The progress of a backfill, kept in Kafka as the committed offsets of its own consumer group.

The group is named after the workers' group and the history. The committed offset of an input
partition is the next one to read; the metadata beside it holds the rest as JSON. So a backfill can
be continued from any machine, and nothing is kept outside the brokers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec
from confluent_kafka import Consumer, TopicPartition

from pipeline.config import Settings
from pipeline.errors import BrokerError, StateError
from pipeline.kafka.groups import GroupOffsets, committed

FORMAT: Final = 1
_ASKED_AT_ONCE: Final = 8

Input = tuple[str, int]
"""Topic and partition."""


class Phase(StrEnum):
    """What is to be done next: see `pipeline.history.backfill`."""

    HOLD = "hold"
    CHOOSE = "choose"
    LEARN = "learn"
    RELEASE = "release"
    RESEND = "tell"  # the value that is stored
    DONE = "done"


@dataclass(slots=True)
class Part:
    """The offsets of one input partition.

    Attributes:
        start: where learning begins.
        handover: what lies before it is learned, what lies at or after it is judged.
        position: the next offset to read.
        until: the end of what is sent again; the workers judge what comes later. None while the
            history is held.
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
        since_ms: records older than this are not learned from.
        begun_ms: when the backfill was begun.
        ended_ms: when it was done; None until then.
        parts: the input partitions.
    """

    phase: Phase
    since_ms: int
    begun_ms: int
    parts: dict[Input, Part]
    ended_ms: int | None = None

    def keep_handover(self, earlier: Checkpoint) -> None:
        """Take over the hand-over of an unfinished backfill that this one replaces.

        Sightings since that hand-over were held, and have not been judged yet.
        """
        if earlier.phase is Phase.DONE:
            return
        for place, part in self.parts.items():
            if place in earlier.parts:
                part.handover = earlier.parts[place].handover
                part.start = part.position = min(part.start, part.handover)

    def learn_nothing(self) -> None:
        """Skip what there is to learn."""
        for part in self.parts.values():
            part.start = part.position = part.handover

    def go_back_to_release(self) -> None:
        """Go back to the release, after which everything since the hand-over is sent again."""
        self.phase = Phase.RELEASE
        for part in self.parts.values():
            part.position = part.handover


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


def begun_groups(settings: Settings, groups: Iterable[str], inputs: Sequence[Input]) -> set[str]:
    """Return the groups whose checkpoint is past `Phase.HOLD`, so that their histories were held.

    Each group needs a client of its own, because each has to find its coordinator. Several are
    asked at a time.

    Raises:
        BrokerError: the brokers do not say.
        StateError: a checkpoint was saved by a newer version of firstseen.
    """

    def is_begun(group: str) -> bool:
        found = committed(settings, group, inputs)
        return bool(found) and all(_read(each.metadata).phase is not Phase.HOLD for each in found)

    asked = list(groups)
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        answers = pool.map(is_begun, asked)
        return {group for group, begun in zip(asked, answers, strict=True) if begun}


class CheckpointStore:
    """Reads and writes the checkpoint of one backfill.

    Args:
        settings: for error messages.
        client: a consumer of the backfill's group.
        group: the name of that group, for error messages.
    """

    def __init__(self, settings: Settings, client: Consumer, group: str) -> None:
        self._offsets = GroupOffsets(settings, client, group)

    def load(self, inputs: list[Input]) -> Checkpoint | None:
        """Return the last saved checkpoint; None if there is none, or the brokers have dropped it.

        A partition that was added in the meantime is judged from its beginning.

        Raises:
            BrokerError: the brokers do not say, or have not kept it whole.
            StateError: it was saved by a newer version of firstseen.
        """
        found = {
            (each.topic, each.partition): (each.offset, _read(each.metadata))
            for each in self._offsets.read(inputs)
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

    def begin(self, checkpoint: Checkpoint) -> None:
        """Write the first checkpoint of a backfill, and check that the brokers keep it whole.

        Raises:
            BrokerError: they do not, or they refuse.
        """
        self.save(checkpoint)
        for each in self._offsets.read(checkpoint.parts):
            _read(each.metadata)

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
        self._offsets.write(offsets)


def _read(metadata: str | None) -> _Metadata:
    if not metadata:
        raise BrokerError(
            "the brokers have not kept the metadata of a committed offset, where a backfill notes "
            "how far it has come: it needs Apache Kafka, the embedded broker of `firstseen demo` "
            "does not do. Teach the rule with `firstseen history import` instead, or let it learn "
            "for a while (state.learning)"
        )
    try:
        read = _decoder.decode(metadata.encode())
    except ValueError as error:
        raise StateError(f"the checkpoint of the backfill cannot be read: {error}") from error
    if read.format != FORMAT:
        raise StateError(
            f"the checkpoint of the backfill has format {read.format}, this version reads "
            f"{FORMAT}: use a version of firstseen at least as new as the one that began it"
        )
    return read
