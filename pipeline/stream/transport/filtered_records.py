"""Bundles of what the filter keeps; the rest is dropped before aiokafka makes records of it.

The position moves past everything that is dropped, including control batches, aborted transactions
and gaps left by compaction.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from time import monotonic
from typing import Any, Final, TypeAlias

from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from pipeline.record import NO_TIMESTAMP
from pipeline.stream.transport import batches
from pipeline.stream.transport.batches import BatchHeader, UnreadableBatchError
from pipeline.stream.transport.bundled_records import BundledRecords
from pipeline.stream.transport.bundles import (
    MAX_BUNDLE_RECORDS,
    MAX_BUNDLE_SECONDS,
    BundleBuffer,
    FetchedRecord,
)
from pipeline.stream.transport.lenient_reader import read_record
from pipeline.stream.transport.options import Depth
from pipeline.stream.transport.record_filter import BatchRecord, Examined, Item, RecordFilter
from pipeline.stream.transport.scanning import LARGE_BYTES, BatchScan, Searched

_FEW: Final = 4
"""Records are parsed one by one if at most one in this many is wanted.

If there are more, parsing the whole batch is cheaper.
"""

_UNSAID: Final = 16
"""Every this many results, one is yielded even if its record was dropped.

So the position moves on, and the deadline is checked.
"""

_TOGETHER: Final = 256
_TOGETHER_BYTES: Final = 1 << 20
"""This many records, or this many bytes of them, are gathered before they are judged."""

_Judge: TypeAlias = Callable[[TopicPartition, list[BatchRecord]], Iterator[Examined]]
_Found: TypeAlias = tuple[BatchRecord, _Judge]
"""A record, or a stand-in for a batch that cannot be read, and how to judge it."""


class FilteredRecords(BundledRecords):
    """Bundles the records that the filter keeps; `next_fetch_offset` moves past the others."""

    record_filter: RecordFilter
    depth: Depth
    data: memoryview
    scan: BatchScan
    _searched_to: int
    _unread: int
    _latest_ms: int

    @classmethod
    def adopt_filtered(
        cls,
        records: PartitionRecords,
        bundle_buffer: BundleBuffer,
        record_filter: RecordFilter,
        depth: Depth,
        *,
        data: memoryview,
        scan: BatchScan,
    ) -> None:
        """Do what `adopt` does, for a topic whose records are filtered.

        Args:
            records: aiokafka's iterator; it needs to hold only the first batch.
            bundle_buffer: where bundles are put.
            record_filter: decides which records are kept.
            depth: where records are dropped.
            data: what was fetched of the partition.
            scan: skips batches; must belong to the reading thread.
        """
        records.__class__ = cls
        records._deliver_to(bundle_buffer)  # noqa: SLF001
        records.record_filter = record_filter
        records.depth = depth
        records.data = data
        records.scan = scan
        records._records_iterator = records._bundle(records._read())  # noqa: SLF001

    def _read(self) -> Iterator[tuple[FetchedRecord, Item | None]]:
        """Search batch after batch, and judge together what was found in several of them.

        Each batch sends a quarter of a megabyte through the processor's caches, which evicts what
        judging needs. If records are judged together, only the first one pays for that.
        """
        self._searched_to = self.next_fetch_offset
        self._unread, self._latest_ms = 0, NO_TIMESTAMP
        found: list[_Found] = []
        size, deadline = 0, monotonic() + MAX_BUNDLE_SECONDS
        at, searched = 0, None
        while True:
            new: Sequence[_Found] = ()
            if self.depth >= Depth.BATCH:
                at, searched, new = self._skip_batches(at, deadline)
            if not new:
                if batches.is_old_format(self.data, at):
                    yield from self._judge_all(found)
                    found = []
                    yield from self._read_old_format(self.data[at:])
                    break
                header = batches.batch_header(self.data, at)
                if header is None:
                    break
                new = self._look_into(header, searched)
                at, searched = header.end, None
            found += new
            size += sum([len(record.value or b"") for record, _ in new])
            enough = len(found) >= _TOGETHER or size >= _TOGETHER_BYTES
            if enough or monotonic() > deadline:
                yield from self._judge_all(found)
                found, size, deadline = [], 0, monotonic() + MAX_BUNDLE_SECONDS
        yield from self._judge_all(found)
        self.record_filter.count_unread(self._tp, self._unread, self._latest_ms)

    def _skip_batches(
        self, at: int, deadline: float
    ) -> tuple[int, Searched | None, Sequence[_Found]]:
        """Skip batches in which no rule can match, until the deadline.

        Returns:
            Where the first batch starts that is not done, what was found in it if it has been
            searched, and what is to be judged of the batch before it.
        """
        passed = self.scan.skip_batches(self._tp, self.data, at, self._searched_to, deadline)
        self._searched_to = passed.searched_to
        self._unread += passed.unread
        self._latest_ms = max(self._latest_ms, passed.latest_ms)
        examine = self.record_filter.examine
        return passed.at, passed.searched, [(record, examine) for record in passed.records]

    def _look_into(self, header: BatchHeader, searched: Searched | None) -> Sequence[_Found]:
        """Return what is to be judged of a batch; the other records are counted.

        Args:
            header: its header.
            searched: what `_skip_batches` has found in it. The batch is then known to be intact,
                and not one to skip.
        """
        found: Sequence[_Found] = ()
        if searched is None and self._check_crcs:
            batches.check_crc(self.data, header)
        if searched is not None or not self._is_skipped(header):
            found = self._find(header, searched)
        self._searched_to = max(header.next_offset, self._searched_to)
        return found

    def _is_skipped(self, header: BatchHeader) -> bool:
        """Whether a batch holds no records for us: control records, aborted, or read before."""
        if self._isolation_level == READ_COMMITTED and header.producer_id >= 0:
            self._consume_aborted_up_to(header.base_offset)
            if header.is_control and self._contains_abort_marker(
                DefaultRecordBatch(self.data[header.start : header.end])
            ):
                self._aborted_producers.discard(header.producer_id)
            if header.is_transactional and header.producer_id in self._aborted_producers:
                return True
        # A batch may claim that its last offset comes before its first one.
        last = max(header.base_offset, header.next_offset - 1)
        return header.is_control or last < self._searched_to

    def _judge_all(self, found: Iterable[_Found]) -> Iterator[tuple[FetchedRecord, Item | None]]:
        """Judge what was found, in order, and move the position past all that was searched."""
        for judge, records in self._groups(found):
            examined = judge(self._tp, records)
            for number, (record, next_offset, item) in enumerate(examined):
                if item is not None or not number % _UNSAID:
                    self.next_fetch_offset = next_offset
                    yield self._consumer_record(self._tp, record), item
        self.next_fetch_offset = self._searched_to

    def _groups(self, found: Iterable[_Found]) -> Iterator[tuple[_Judge, list[BatchRecord]]]:
        """Group consecutive records that are judged alike, at most a bundle's worth at a time."""
        for judge, group in groupby(found, key=itemgetter(1)):
            records = [record for record, _ in group]
            for start in range(0, len(records), MAX_BUNDLE_RECORDS):
                yield judge, records[start : start + MAX_BUNDLE_RECORDS]

    def _find(self, header: BatchHeader, searched: Searched | None) -> Sequence[_Found]:
        self._latest_ms = max(self._latest_ms, header.max_timestamp_ms)
        # Everything that can fail happens before the first record is passed on. So either the
        # records are counted or their batch is, never both.
        try:
            wanted, judge = self._wanted(header, searched)
        except UnreadableBatchError as error:
            return (self._refuse(header, str(error)),)
        return [(record, judge) for record in wanted]

    def _wanted(
        self, header: BatchHeader, searched: Searched | None
    ) -> tuple[Sequence[Any], _Judge]:
        """Return the records to judge, and how to judge them; the others are counted.

        Raises:
            UnreadableBatchError: the batch cannot be read.
        """
        positions: Sequence[int] | None
        if searched is None:
            payload = self.scan.decompressor.decompress(header.section(self.data), header.codec)
            positions = None
        else:
            payload, positions = searched
        start = self._searched_to
        if self.depth < Depth.BATCH or start > header.base_offset or len(payload) > LARGE_BYTES:
            # There are three cases: no search of whole batches; a batch of which a part was read
            # before a seek; a batch so large that listing all positions might take many times as
            # long as reading it.
            records = self._read_all(header, payload)
            _check_offsets(header, records)
            records = [record for record in records if record.offset >= start]
            if self.depth >= Depth.RECORD:
                read, may_match = len(records), self.record_filter.may_match
                records = [record for record in records if may_match(record.value or b"")]
                self._unread += read - len(records)
            return records, self.record_filter.judge
        if positions is None:
            positions = self.record_filter.positions(payload)
        if not positions:
            self._unread += header.records
            return (), self.record_filter.judge
        records = self._read_at(header, payload, positions)
        _check_offsets(header, records)
        self._unread += header.records - len(records)
        return records, self.record_filter.examine

    def _read_at(
        self, header: BatchHeader, payload: bytes | memoryview, positions: Sequence[int]
    ) -> list[Any]:
        """Read only the records that contain one of these positions."""
        ends = batches.record_ends(payload, header.records, max(positions))
        wanted = sorted({bisect_right(ends, position) for position in positions})
        if len(wanted) * _FEW > header.records:
            read = self._read_all(header, payload)
            return [read[number] for number in wanted]
        spans = [batches.span(ends, number) for number in wanted]
        try:
            return batches.parse_some(self.data, header, payload, spans)
        except Exception:  # noqa: BLE001 - whatever aiokafka raises
            return _read_leniently(header, payload, spans)

    def _read_all(self, header: BatchHeader, payload: bytes | memoryview) -> list[Any]:
        try:
            return list(batches.parse(self.data, header, payload))
        except Exception:  # noqa: BLE001 - whatever aiokafka raises
            ends = batches.record_ends(payload, header.records)
            spans = [batches.span(ends, number) for number in range(len(ends))]
            return _read_leniently(header, payload, spans)

    def _refuse(self, header: BatchHeader, reason: str) -> _Found:
        """Pass on the whole batch, as it was fetched, in place of its records."""
        record = FetchedRecord(
            self._tp.topic,
            self._tp.partition,
            max(header.base_offset, self._searched_to),
            header.max_timestamp_ms,
            0,
            None,
            bytes(self.data[header.start : header.end]),
            (),
        )
        # At most one per offset, whatever its header claims.
        records = max(1, min(header.records, header.next_offset - header.base_offset))
        item = self.record_filter.refuse(self._tp, record, reason, records)
        return record, lambda _, found: iter([Examined(found[0], found[0].offset + 1, item)])

    def _read_old_format(self, data: memoryview) -> Iterator[tuple[FetchedRecord, Item | None]]:
        """Read message sets of format 0 and 1 with aiokafka's reader, which skips old records."""
        self._records = MemoryRecords(bytes(data))
        for record in self._unpack_records():
            self._latest_ms = max(self._latest_ms, record.timestamp or NO_TIMESTAMP)
            if self.depth >= Depth.RECORD and not self.record_filter.may_match(record.value or b""):
                self._unread += 1
            else:
                for _, _, item in self.record_filter.judge(self._tp, [record]):
                    yield record, item
        self._searched_to = self.next_fetch_offset


def _check_offsets(header: BatchHeader, records: Sequence[Any]) -> None:
    """Check that the offsets of records ascend and lie within their batch.

    Raises:
        UnreadableBatchError: they do not.
    """
    before = header.base_offset - 1
    for record in records:
        if not before < record.offset < header.next_offset:
            raise UnreadableBatchError(f"a record of offset {record.offset} follows {before}")
        before = record.offset


def _read_leniently(
    header: BatchHeader, payload: bytes | memoryview, spans: Iterable[tuple[int, int]]
) -> list[Any]:
    try:
        return [read_record(header, payload, span) for span in spans]
    except ValueError as error:
        raise UnreadableBatchError(str(error)) from error
