"""What decides about the records of the input topics, as the fetcher sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from aiokafka.structs import TopicPartition


class Item(Protocol):
    """What reaches an agent: a record, or what the filter made of one or more."""

    @property
    def records(self) -> int:
        """How many it stands for."""

    @property
    def size(self) -> int:
        """How many bytes of it wait in memory."""


class BatchRecord(Protocol):
    """A record as it was read from its batch, by aiokafka or by `unusual.read_record`."""

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
    """What the filter made of a record, or of several that follow one another.

    Attributes:
        record: the first one.
        next_offset: the offset behind the last one.
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
        """Whether raw bytes can tell anything; if not, only `judge` is asked."""

    def may_match(self, value: bytes) -> bool:
        """Return False only if no event in this value can match."""

    def positions(self, data: bytes | memoryview) -> Sequence[int]:
        """Return where something stands that a match needs; a record without any cannot match."""

    @property
    def texts(self) -> tuple[bytes, ...]:
        """Texts whose case counts: at each of the `positions` one of them ends.

        Empty where positions cannot be told so. They may be others later.
        """

    @property
    def unwatched_bytes(self) -> int:
        """How many bytes may be searched for `texts` before `positions` is asked again.

        It has to see some of the traffic from time to time.
        """

    def searched(self, size: int) -> None:
        """Note that so many bytes were searched for `texts` elsewhere."""

    def judge(self, tp: TopicPartition, records: list[BatchRecord]) -> Iterator[Examined]:
        """Judge consecutive records whole.

        What is made of one or more of them is said before the next ones are looked at.
        """

    def examine(self, tp: TopicPartition, records: list[BatchRecord]) -> Iterator[Examined]:
        """Do what `judge` does with each record that `may_match`, and drop the others as unread.

        Asked of records in which one of the `positions` lies.
        """

    def refuse(self, tp: TopicPartition, record: BatchRecord, reason: str, records: int) -> Item:
        """Return what goes on to the agent for a batch that cannot be read.

        Args:
            tp: its partition.
            record: stands for the batch; its value is the batch as it was fetched.
            reason: why.
            records: how many the batch holds, as its header says.
        """

    def passed_over(self, tp: TopicPartition, records: int, timestamp_ms: int) -> None:
        """Count records that were dropped unread. Called at the end of each fetch.

        Args:
            tp: their partition.
            records: how many; 0 if there was none.
            timestamp_ms: of the latest record of the fetch, read or not (-1: none).
        """

    def clear(self) -> None:
        """Rely on nothing that was let through: it may not have reached its agent."""
