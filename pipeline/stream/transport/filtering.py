"""A fetcher that drops what no rule can match, before aiokafka makes records of it.

aiokafka hands each partition's share of a fetch response to a `PartitionRecords`, an iterator that
parses batches and yields records, and takes the next position from it. Here that iterator is
replaced by one that yields only what the filter lets through; its position passes over the rest,
control batches, aborted transactions and compacted holes included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

from aiokafka.consumer.fetcher import (
    READ_COMMITTED,
    Fetcher,
    FetchResult,
    PartitionRecords,
)
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import ConsumerRecord, TopicPartition

from pipeline.stream.transport import batches
from pipeline.stream.transport.batches import BatchHeader
from pipeline.stream.transport.options import Depth

_NO_POSITION: Final = 1 << 62


class RecordFilter(Protocol):
    """Decides about records in the consumer thread; must not raise."""

    @property
    def topics(self) -> frozenset[str]:
        """The topics whose records are filtered."""

    @property
    def searches(self) -> bool:
        """Whether raw bytes can tell anything; if not, only `keep` is asked."""

    def may_match(self, value: bytes) -> bool:
        """Return False only if no event in this value can match."""

    def positions(self, data: bytes | memoryview) -> Sequence[int]:
        """Return where something stands that a match needs; a record without any cannot match."""

    def keep(self, record: ConsumerRecord) -> bool:
        """Judge one record whole; what is kept goes on to the agent."""

    def passed_over(self, tp: TopicPartition, records: int, timestamp_ms: int) -> None:
        """Count records that were dropped unread; the latest of them has this timestamp."""


class FilteredRecords(PartitionRecords):
    """Yields the records that the filter keeps; `next_fetch_offset` passes over the others."""

    record_filter: RecordFilter
    depth: Depth
    data: bytes
    next_fetch_offset: int
    _unread: int
    _unread_ms: int

    @classmethod
    def adopt(
        cls, records: PartitionRecords, record_filter: RecordFilter, depth: Depth, data: bytes
    ) -> None:
        """Turn the iterator of aiokafka, which nobody has read from yet, into one of ours."""
        records.__class__ = cls
        records.record_filter = record_filter
        records.depth = depth
        records.data = data
        records._records_iterator = records._read()  # noqa: SLF001

    def _read(self) -> Iterator[ConsumerRecord]:
        self._unread, self._unread_ms = 0, 0
        for header in batches.batch_headers(self.data):
            if header is None:
                yield from self._read_old_format()
                break
            if self._check_crcs:
                batches.check_crc(self.data, header)
            if not self._is_skipped(header):
                yield from self._read_batch(header)
            self.next_fetch_offset = max(header.next_offset, self.next_fetch_offset)
        if self._unread:
            self.record_filter.passed_over(self._tp, self._unread, self._unread_ms)

    def _is_skipped(self, header: BatchHeader) -> bool:
        """Whether a batch holds no records for us: control, aborted, or read before."""
        if self._isolation_level == READ_COMMITTED and header.producer_id >= 0:
            self._consume_aborted_up_to(header.base_offset)
            if header.is_control and self._contains_abort_marker(
                DefaultRecordBatch(memoryview(self.data)[header.start : header.end])
            ):
                self._aborted_producers.discard(header.producer_id)
            if header.is_transactional and header.producer_id in self._aborted_producers:
                return True
        return header.is_control or header.next_offset <= self.next_fetch_offset

    def _read_batch(self, header: BatchHeader) -> Iterator[ConsumerRecord]:
        payload = batches.decompress(self.data, header)
        if self.depth < Depth.BATCH or self.next_fetch_offset > header.base_offset:
            # Without a search of the batch, or with a batch that was half read before a seek.
            yield from self._read_each(header, payload)
            return
        positions = self.record_filter.positions(payload)
        self._count_unread(header.records, header.max_timestamp_ms)
        if positions:
            yield from self._read_at(header, payload, positions)

    def _read_at(
        self, header: BatchHeader, payload: bytes | memoryview, positions: Sequence[int]
    ) -> Iterator[ConsumerRecord]:
        """Read only the records in which one of these positions lies."""
        wanted = iter(sorted(positions))
        position = next(wanted)
        for span in batches.record_spans(payload, header.records):
            if position < span[1]:
                (record,) = batches.parse_one(self.data, header, payload, span)
                if self.record_filter.may_match(record.value or b""):
                    self._count_unread(-1, 0)
                    yield from self._judge(record)
                while position < span[1]:
                    position = next(wanted, _NO_POSITION)

    def _read_each(
        self, header: BatchHeader, payload: bytes | memoryview
    ) -> Iterator[ConsumerRecord]:
        start = self.next_fetch_offset
        for record in batches.parse(self.data, header, payload):
            if record.offset < start:
                continue
            if self.depth >= Depth.RECORD and not self.record_filter.may_match(record.value or b""):
                self._count_unread(1, record.timestamp or 0)
            else:
                yield from self._judge(record)

    def _read_old_format(self) -> Iterator[ConsumerRecord]:
        """Read message sets of format 0 and 1 with aiokafka's reader; it skips what was read."""
        for record in super()._unpack_records():
            if self.depth >= Depth.RECORD and not self.record_filter.may_match(record.value or b""):
                self._count_unread(1, record.timestamp or 0)
            elif self.record_filter.keep(record):
                yield record

    def _judge(self, record: Any) -> Iterator[ConsumerRecord]:
        self.next_fetch_offset = record.offset + 1
        judged = self._consumer_record(self._tp, record)
        if self.record_filter.keep(judged):
            yield judged

    def _count_unread(self, records: int, timestamp_ms: int) -> None:
        self._unread += records
        self._unread_ms = max(self._unread_ms, timestamp_ms)


class _ClientTap:
    """The client of a fetcher, that keeps each fetch response until its fetcher has read it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.responses: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: Any, request: Any, **options: Any) -> Any:
        response = await self._client.send(node_id, request, **options)
        if hasattr(response, "topics"):
            self.responses[id(request)] = response
        return response


class FilteringFetcher(Fetcher):
    """Makes `FilteredRecords` of what a fetch brought, before anybody reads from it."""

    record_filter: RecordFilter
    depth: Depth

    @classmethod
    def adopt(cls, fetcher: Fetcher, record_filter: RecordFilter, depth: Depth) -> None:
        """Turn a fetcher that has not fetched yet (no subscription) into one of ours."""
        fetcher.__class__ = cls
        fetcher.record_filter = record_filter
        fetcher.depth = depth
        fetcher._client = _ClientTap(fetcher._client)  # noqa: SLF001

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> bool:
        try:
            wake_up: bool = await super()._proc_fetch_request(assignment, node_id, request)
        finally:
            response = self._client.responses.pop(id(request), None)
        # Still in the synchronous step that filled self._records: no reader came in between.
        for topic, partitions in response.topics if response is not None else ():
            if topic in self.record_filter.topics:
                for partition, *_, data in partitions:
                    self._filter(TopicPartition(topic, partition), data)
        return wake_up

    def _filter(self, tp: TopicPartition, data: bytes | None) -> None:
        result = self._records.get(tp)
        if type(result) is FetchResult and data:
            records = result._partition_records  # noqa: SLF001
            # A result that waits from an earlier fetch is ours already.
            if type(records) is PartitionRecords:
                FilteredRecords.adopt(records, self.record_filter, self.depth, data)
