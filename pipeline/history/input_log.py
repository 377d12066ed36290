"""Where the input log begins and ends, and where a backfill cuts it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import Consumer, Message, TopicPartition

from pipeline.config import Settings
from pipeline.errors import TopologyError
from pipeline.history.checkpoint import Checkpoint, Input, Part, Phase, groups_with_offsets
from pipeline.kafka.clients import CONNECT_TIMEOUT, broker_errors

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

    def cut(self, since_ms: int, earlier: Checkpoint | None) -> Checkpoint:
        """Return the checkpoint that a backfill begins with.

        The hand-over is what the workers have committed. Where they have committed nothing at all
        it is the end: they have yet to begin, and all that is there is the past.

        Args:
            since_ms: epoch milliseconds; records older than that are not learned from.
            earlier: the checkpoint of a backfill of the same history, to be begun anew. Its
                hand-over stays if it was not done: sightings since then have not been told yet.
        """
        starts = self._offsets_of_time(since_ms)
        bounds = {place: self._bounds(place) for place in self.inputs}
        group = self._settings.kafka.group_id
        committed = groups_with_offsets(self._settings, [group]).get(group, {})
        committed = {place: offset for place, offset in committed.items() if place in bounds}
        unfinished = {} if earlier is None or earlier.phase is Phase.DONE else earlier.parts
        parts = {}
        for place, (low, high) in bounds.items():
            handover = committed.get(place, low if committed else high)
            if place in unfinished:
                handover = unfinished[place].handover
            handover = max(low, min(handover, high))
            start = min(max(low, starts[place]) if starts[place] >= 0 else high, handover)
            parts[place] = Part(start, handover, start)
        return Checkpoint(Phase.HOLD, since_ms, time.time_ns() // 1_000_000, parts)

    def begins_at(self, place: Input, offset: int) -> bool:
        """Whether nothing older than this offset is retained."""
        return self._bounds(place)[0] >= offset

    def behind(self, checkpoint: Checkpoint) -> int:
        """Return how many records there are from the hand-over on."""
        return sum(
            max(0, self._bounds(place)[1] - part.handover)
            for place, part in checkpoint.parts.items()
        )

    def note_ends(self, checkpoint: Checkpoint) -> None:
        """Set where telling ends: where the log ends now, new partitions included."""
        for place in self.inputs:
            checkpoint.parts.setdefault(place, Part(0, 0, 0))
        for place, part in checkpoint.parts.items():
            part.until = max(part.handover, self._bounds(place)[1])

    def _partitions(self) -> list[Input]:
        inputs = []
        with broker_errors(self._settings, _DOING):
            topics = self._client.list_topics(timeout=CONNECT_TIMEOUT).topics
        for name in self._settings.topics.inputs:
            found = topics.get(name)
            if found is None or found.error is not None:
                raise TopologyError(
                    f"input topic {name} does not exist: correct topics.inputs (from "
                    f"{self._settings.source('topics.inputs')})"
                )
            inputs += [(name, number) for number in sorted(found.partitions)]
        return inputs

    def _bounds(self, place: Input) -> tuple[int, int]:
        """Return the first offset that is retained, and the end."""
        with broker_errors(self._settings, _DOING):
            low, high = self._client.get_watermark_offsets(TopicPartition(*place), CONNECT_TIMEOUT)
        return low, high

    def _offsets_of_time(self, time_ms: int) -> dict[Input, int]:
        """Return the first offset not older than this time; negative where there is none."""
        asked = [TopicPartition(*place, max(0, time_ms)) for place in self.inputs]
        with broker_errors(self._settings, _DOING):
            answers = self._client.offsets_for_times(asked, CONNECT_TIMEOUT)
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
        self._waiting = {
            place: start for place, start in starts.items() if log.begins_at(place, start)
        }
        self._reaches = len(self._waiting) < len(starts)
        self._times: list[int] = []

    def look(self, messages: Sequence[Message]) -> None:
        """Note the first record of each partition, if the log begins with it."""
        if self._reaches or not self._waiting:
            return
        for message in messages:
            start = self._waiting.pop((message.topic(), message.partition()), None)
            if start == message.offset():
                self._times.append(message.timestamp()[1])

    @property
    def time_ms(self) -> int | None:
        """The oldest record's timestamp, if it is later than was asked for."""
        oldest = min(self._times, default=0)
        return None if oldest <= self._since_ms + _BEGIN_TOLERANCE_MS else oldest
