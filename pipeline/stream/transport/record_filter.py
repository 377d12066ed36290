"""The interface of what decides about the records of the input topics, as the fetcher sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from aiokafka.structs import TopicPartition


class Item(Protocol):
    """What reaches an agent: a record, or what the filter made of one or more records."""

    @property
    def records(self) -> int:
        """How many records it stands for."""

    @property
    def size(self) -> int:
        """How many bytes of it wait in memory."""


class BatchRecord(Protocol):
    """A record as it was read from its batch, by aiokafka or by `lenient_reader.read_record`."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int | None: ...
    @property
    def timestamp_type(self) -> int | None: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Iterable[tuple[str, bytes | None]]: ...


class Examined(NamedTuple):
    """What the filter made of one or more consecutive records.

    Attributes:
        record: the first one.
        next_offset: the offset after the last one.
        item: what goes on to the agent; None if nothing does.
    """

    record: BatchRecord
    next_offset: int
    item: Item | None


class RecordFilter(Protocol):
    """Decides about the records of the input topics, in the consumer's thread; must not raise."""

    @property
    def topics(self) -> frozenset[str]:
        """The topics whose records are filtered."""

    @property
    def searches(self) -> bool:
        """Whether searching raw bytes is of any use; if not, only `judge` is called."""

    def may_match(self, value: bytes) -> bool:
        """Return False only if no event in this value can match."""

    def positions(self, data: bytes | memoryview) -> Sequence[int]:
        """Return where data contains what a match needs; records without any cannot match."""

    @property
    def texts(self) -> tuple[bytes, ...]:
        """Case-sensitive texts, one of which ends at each of the `positions`.

        Empty if positions cannot be described like this. The texts may change over time.
        """

    @property
    def unwatched_bytes(self) -> int:
        """How many bytes may be searched for `texts` before `positions` must be called again.

        `positions` has to see part of the traffic from time to time, because the texts are chosen
        from it.
        """

    def note_searched(self, size: int) -> None:
        """Note that this many bytes were searched for `texts` elsewhere."""

    def judge(self, tp: TopicPartition, records: list[BatchRecord]) -> Iterator[Examined]:
        """Judge consecutive records without searching them first.

        The result for one or more of them is yielded before the next ones are looked at.
        """

    def examine(self, tp: TopicPartition, records: list[BatchRecord]) -> Iterator[Examined]:
        """Judge each record that `may_match`, like `judge`, and drop the others as unread.

        Called with records that contain at least one of the `positions`.
        """

    def refuse(self, tp: TopicPartition, record: BatchRecord, reason: str, records: int) -> Item:
        """Return what goes on to the agent for a batch that cannot be read.

        Args:
            tp: its partition.
            record: stands for the batch; its value is the batch as it was fetched.
            reason: why it cannot be read.
            records: how many records the batch holds: what its header says, at most one per offset.
        """

    def count_unread(self, tp: TopicPartition, records: int, timestamp_ms: int) -> None:
        """Count records that were dropped unread; called at the end of each fetch.

        Args:
            tp: their partition.
            records: how many there were, or 0.
            timestamp_ms: the timestamp of the latest record of the fetch, read or not (-1: none).
        """

    def clear(self) -> None:
        """Forget what was let through so far, because it may not have reached its agent."""
