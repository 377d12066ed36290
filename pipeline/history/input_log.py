"""Where the input log begins and ends, and where a backfill cuts it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaException,
    Message,
    TopicPartition,
)

from pipeline.clock import now_ms
from pipeline.config import Settings
from pipeline.errors import TopologyError
from pipeline.history.checkpoint import Checkpoint, Input, Part, Phase
from pipeline.kafka.clients import CONNECT_TIMEOUT, broker_errors
from pipeline.kafka.groups import committed
from pipeline.kafka.reading import check_leader
from pipeline.kafka.visibility import check_visible

_DOING: Final = "looking at the inputs"
_BEGIN_TOLERANCE_MS: Final = 60_000


class InputLog:
    """The input topics' partitions and their offsets.

    Args:
        settings: how to connect; the inputs, and the workers' group.
        client: a consumer.

    Raises:
        BrokerError: the brokers do not say.
        TopologyError: an input does not exist.
    """

    def __init__(self, settings: Settings, client: Consumer) -> None:
        self._settings = settings
        self._client = client
        self.inputs: list[Input] = self._partitions()

    def cut(self, since_ms: int) -> Checkpoint:
        """Return the checkpoint that a backfill begins with.

        The hand-over of a partition is the offset that the workers have committed. If they have
        committed none, it is

        * the end, if they have committed nothing in any partition: they have yet to begin, so
          everything that is there is the past;
        * the beginning of the partition otherwise.

        Args:
            since_ms: epoch milliseconds; records older than this are not learned from.
        """
        starts = self._offsets(max(0, since_ms))
        begins, ends = self.begins(), self.ends()
        read = committed(self._settings, self._settings.kafka.group_id, ends)
        handovers = {(each.topic, each.partition): each.offset for each in read}
        parts = {}
        for place, end in ends.items():
            begin, start = begins[place], starts[place]
            handover = handovers.get(place, begin if handovers else end)
            handover = max(begin, min(handover, end))
            start = min(max(begin, start) if start >= 0 else end, handover)
            parts[place] = Part(start, handover, start)
        return Checkpoint(Phase.HOLD, since_ms, now_ms(), parts)

    def begins(self) -> dict[Input, int]:
        """Return the first retained offset of each partition."""
        return self._offsets(OFFSET_BEGINNING)

    def ends(self) -> dict[Input, int]:
        """Return the present end of each partition: the offset that its next record will have."""
        return self._offsets(OFFSET_END)

    def behind(self, checkpoint: Checkpoint) -> int:
        """Return how many records there are from the hand-over on."""
        ends = self.ends()
        return sum(
            max(0, ends.get(place, 0) - part.handover) for place, part in checkpoint.parts.items()
        )

    def note_ends(self, checkpoint: Checkpoint) -> None:
        """Set the present end of the log as the end of what is sent again.

        Partitions that were added in the meantime are included.
        """
        for place, end in self.ends().items():
            part = checkpoint.parts.setdefault(place, Part(0, 0, 0))
            part.until = max(part.handover, end)

    def _partitions(self) -> list[Input]:
        inputs = []
        with broker_errors(self._settings, _DOING):
            topics = self._client.list_topics(timeout=CONNECT_TIMEOUT).topics
        for name in self._settings.topics.inputs:
            found = topics.get(name)
            if found is None or found.error is not None:
                check_visible(self._settings, [name])
                raise TopologyError(
                    f"input topic {name} does not exist: correct topics.inputs (from "
                    f"{self._settings.source('topics.inputs')})"
                )
            inputs += [(name, number) for number in sorted(found.partitions)]
        return inputs

    def _offsets(self, when: int) -> dict[Input, int]:
        """Request an offset for each partition, all in one request.

        Args:
            when: epoch milliseconds, to get the first offset that is not older (negative if there
                is none); or `OFFSET_BEGINNING` or `OFFSET_END`.
        """
        asked = [TopicPartition(*place, when) for place in self.inputs]
        with broker_errors(self._settings, _DOING):
            answers = self._client.offsets_for_times(asked, CONNECT_TIMEOUT)
            for each in answers:
                if each.error is not None:
                    check_leader(_DOING, each, each.error)
                    raise KafkaException(each.error)
        return {(each.topic, each.partition): each.offset for each in answers}


class LogBegin:
    """Finds out whether the log reaches back as far as it should.

    Args:
        log: the inputs.
        checkpoint: where learning begins.
    """

    def __init__(self, log: InputLog, checkpoint: Checkpoint) -> None:
        self._since_ms = checkpoint.since_ms
        starts = {place: part.start for place, part in checkpoint.parts.items()}
        begins = log.begins()
        self._waiting = {p: start for p, start in starts.items() if begins.get(p, 0) >= start}
        self._reaches = len(self._waiting) < len(starts)
        self._times: list[int] = []

    def look(self, messages: Sequence[Message]) -> None:
        """Note the first record of each partition whose log begins with it."""
        if self._reaches or not self._waiting:
            return
        for message in messages:
            start = self._waiting.pop((message.topic(), message.partition()), None)
            if start == message.offset():
                self._times.append(message.timestamp()[1])

    @property
    def time_ms(self) -> int | None:
        """The oldest record's timestamp if the log does not reach back far enough, else None."""
        oldest = min(self._times, default=0)
        return None if oldest <= self._since_ms + _BEGIN_TOLERANCE_MS else oldest
