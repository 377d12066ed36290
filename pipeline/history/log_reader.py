"""Reads ranges of the input topics without a consumer group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from pipeline.config import Settings
from pipeline.errors import BrokerError
from pipeline.history.checkpoint import Input
from pipeline.kafka.clients import broker_errors
from pipeline.kafka.reading import SILENCE_SECONDS, interrupts_kept, is_passing, silence

_BATCH_RECORDS: Final = 500
_POLL_SECONDS: Final = 1.0
_STEP_SECONDS: Final = 0.05
_UNREADABLE: Final = frozenset(
    {
        KafkaError._BAD_COMPRESSION,  # noqa: SLF001
        KafkaError._BAD_MSG,  # noqa: SLF001
    }
)


class LogReader:
    """Reads each partition from one offset to another.

    Args:
        settings: for error messages.
        client: a consumer that reports the end of a partition (``enable.partition.eof``).
        max_rate: the maximum number of records per second; None for no limit.
        stopped: asked between two batches whether to end early.

    Attributes:
        positions: the next offset of each partition; everything that was yielded lies before it.
    """

    def __init__(
        self,
        settings: Settings,
        client: Consumer,
        *,
        max_rate: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._client = client
        self._max_rate = max_rate
        self._stopped = stopped
        self.positions: dict[Input, int] = {}
        self._unreadable: set[Input] = set()

    def read(self, ranges: Mapping[Input, tuple[int, int]]) -> Iterator[list[Message]]:
        """Yield the records in ``[start, end)`` of each partition, in batches, some of them empty.

        Records that retention deletes in the meantime are left out, and so are records that
        librdkafka cannot decompress: the stream makes dead letters of such batches.

        Raises:
            BrokerError: a broker refuses, or says nothing for half a minute.
        """
        self.positions = {place: start for place, (start, _) in ranges.items()}
        ends = {place: end for place, (start, end) in ranges.items() if start < end}
        self._client.assign([TopicPartition(*place, self.positions[place]) for place in ends])
        begun, read = time.monotonic(), 0
        heard = begun
        while ends and not self._stopped():
            # If a batch cannot be read, its error comes again and again, so there is little to wait
            # for.
            seconds = _STEP_SECONDS if self._unreadable else _POLL_SECONDS
            self._unreadable.clear()
            with broker_errors(self._settings, "reading the inputs"), interrupts_kept():
                answers = self._client.consume(self._batch(), seconds)
            if answers:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE_SECONDS:
                raise silence("reading the inputs", ends)
            batch = [message for message in answers if self._is_wanted(message, ends)]
            read += len(batch)
            self._step_over(ends)
            self._leave_finished(ends)
            yield batch
            if self._max_rate is not None:
                time.sleep(max(0.0, begun + read / self._max_rate - time.monotonic()))

    def _batch(self) -> int:
        """Return how many records to ask for: if there is a rate, those of a fifth of a second."""
        if self._max_rate is None:
            return _BATCH_RECORDS
        return max(1, min(_BATCH_RECORDS, round(self._max_rate / 5)))

    def _is_wanted(self, message: Message, ends: Mapping[Input, int]) -> bool:
        """Note how far an answer reaches; return whether it is a record of the range."""
        error, place = message.error(), (message.topic(), message.partition())
        if error is not None and error.code() in _UNREADABLE:
            self._unreadable.add(place)
            return False
        if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
            if is_passing(error):
                return False
            raise BrokerError(f"reading {place[0]}: {error.str()}")
        end = ends.get(place)
        if end is None:
            return False  # of a partition that is finished
        offset = message.offset()
        wanted = error is None and offset < end
        self.positions[place] = min(end, offset + 1 if wanted else offset)
        return wanted

    def _step_over(self, ends: Mapping[Input, int]) -> None:
        """Skip records that cannot be read, because librdkafka would run into them for ever.

        This skips one offset at a time, since nothing says where their batch ends.
        """
        for place in self._unreadable & ends.keys():
            self.positions[place] += 1
            if self.positions[place] < ends[place]:
                self._client.seek(TopicPartition(*place, self.positions[place]))

    def _leave_finished(self, ends: dict[Input, int]) -> None:
        finished = [place for place, end in ends.items() if self.positions[place] >= end]
        for place in finished:
            del ends[place]
        if finished:
            self._client.incremental_unassign([TopicPartition(*place) for place in finished])
