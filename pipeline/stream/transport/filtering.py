"""A fetcher that drops what no rule can match, before aiokafka makes records of it.

aiokafka hands each partition's share of a fetch response to a `PartitionRecords`, an iterator that
parses batches and yields records, and takes the next position from it. Here that iterator is
replaced by one that yields only what the filter lets through; its position passes over the rest,
control batches, aborted transactions and compacted holes included.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from time import monotonic
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec
from aiokafka.consumer.fetcher import (
    READ_COMMITTED,
    Fetcher,
    FetchResult,
    PartitionRecords,
)
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from pipeline.record import NO_TIMESTAMP, Position
from pipeline.stream.transport import batches
from pipeline.stream.transport.batches import (
    BatchHeader,
    UnreadableBatchError,
)
from pipeline.stream.transport.bundles import (
    MAX_BUNDLE_BYTES,
    MAX_BUNDLE_RECORDS,
    MAX_BUNDLE_SECONDS,
    Bundle,
    FetchedRecord,
    Shelf,
)
from pipeline.stream.transport.connections import FetchClient
from pipeline.stream.transport.options import Depth
from pipeline.stream.transport.scanning import (
    LARGE_BYTES,
    BatchScan,
    Searched,
    batch_scan,
)
from pipeline.stream.transport.unusual import read_record

_FEW: Final = 4
"""At most one record in so many is parsed alone; of more, parsing the whole batch is cheaper."""

_UNSAID: Final = 16
"""At most so many records are dropped before that is said, and time is looked at."""

_TOGETHER: Final = 256
_TOGETHER_BYTES: Final = 1 << 20
"""So many records, or so many bytes of them, are gathered before they are judged."""


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

        None where positions cannot be told so. They may be others later.
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

    def forget(self) -> None:
        """Rely on nothing that was let through: it may not have reached its agent."""


class BundledRecords(PartitionRecords):
    """Yields the first record of each bundle and puts the bundle on the shelf."""

    shelf: Shelf
    next_fetch_offset: int

    def _consumer_record(self, tp: TopicPartition, record: Any) -> FetchedRecord:
        if type(record) is FetchedRecord:
            return record
        return FetchedRecord(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp,
            record.timestamp_type,
            record.key,
            record.value,
            tuple(record.headers) if record.headers else (),
        )

    def _bundle(
        self, items: Iterator[tuple[FetchedRecord, Item | None]]
    ) -> Iterator[FetchedRecord]:
        """Gather items; a record with None was judged and dropped."""
        first: FetchedRecord | None = None
        record: FetchedRecord | None = None
        bundle: list[Item] = []
        size = records = 0
        deadline = monotonic() + MAX_BUNDLE_SECONDS
        for record, item in items:
            if item is not None:
                first = first or record
                bundle.append(item)
                size += item.size
                records += item.records
            full = records >= MAX_BUNDLE_RECORDS or size >= MAX_BUNDLE_BYTES
            if full or monotonic() > deadline:
                whole = Bundle(tuple(bundle), size, records)
                yield self._hand_over(first or record, record, whole)
                first, bundle, size, records = None, [], 0, 0
                deadline = monotonic() + MAX_BUNDLE_SECONDS
        if first is not None and record is not None:
            yield self._hand_over(first, record, Bundle(tuple(bundle), size, records))

    def _hand_over(
        self,
        first: FetchedRecord,
        last: FetchedRecord,  # noqa: ARG002 - for others
        bundle: Bundle,
    ) -> FetchedRecord:
        """Put a bundle where its reader finds it; return the record that Faust carries."""
        self.shelf.put(Position(first.topic, first.partition, first.offset), bundle)
        return first

    def _put_on(self, shelf: Shelf) -> None:
        self.shelf = shelf
        # Where a fetch ended with an error, aiokafka delivers nothing of it, and it is read again.
        shelf.forget_from(Position(self._tp.topic, self._tp.partition, self.next_fetch_offset))

    @classmethod
    def adopt(cls, records: PartitionRecords, shelf: Shelf) -> None:
        """Turn the iterator of aiokafka, which nobody has read from yet, into one of ours."""
        records.__class__ = cls
        records._put_on(shelf)  # noqa: SLF001
        unpacked = records._unpack_records()  # noqa: SLF001
        records._records_iterator = records._bundle((r, r) for r in unpacked)  # noqa: SLF001


class BundleRecord(FetchedRecord, frozen=True, gc=False):
    """The last record of a bundle, which it carries."""

    bundle: Bundle


class ChangelogRecords(BundledRecords):
    """Yields the last record of each bundle, with the bundle."""

    def _hand_over(
        self,
        first: FetchedRecord,  # noqa: ARG002 - for others
        last: FetchedRecord,
        bundle: Bundle,
    ) -> FetchedRecord:
        self.shelf.count(last.topic, bundle)
        return BundleRecord(**msgspec.structs.asdict(last), bundle=bundle)


class FilteredRecords(BundledRecords):
    """Bundles the records that the filter keeps; `next_fetch_offset` passes over the others."""

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
        shelf: Shelf,
        record_filter: RecordFilter,
        depth: Depth,
        *,
        data: memoryview,
        scan: BatchScan,
    ) -> None:
        """As `adopt`, for a topic whose records are filtered.

        Args:
            records: aiokafka's iterator; it needs to hold no more than the first batch.
            shelf: where bundles are put.
            record_filter: decides.
            depth: where.
            data: what was fetched of the partition.
            scan: passes over batches; of the thread that reads.
        """
        records.__class__ = cls
        records._put_on(shelf)  # noqa: SLF001
        records.record_filter = record_filter
        records.depth = depth
        records.data = data
        records.scan = scan
        records._records_iterator = records._bundle(records._read())  # noqa: SLF001

    def _read(self) -> Iterator[tuple[FetchedRecord, Item | None]]:
        """Search batch after batch, and judge what was found in several of them together.

        With each batch, a quarter of a megabyte goes through the processor's caches. Where records
        are judged one after the other, only the first one finds there nothing of what it needs.
        """
        self._searched_to = self.next_fetch_offset
        self._unread, self._latest_ms = 0, NO_TIMESTAMP
        found: list[_Found] = []
        size, deadline = 0, monotonic() + MAX_BUNDLE_SECONDS
        at, searched = 0, None
        while True:
            new: Sequence[_Found] = ()
            if self.depth >= Depth.BATCH:
                at, searched, new = self._pass_over(at, deadline)
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
        self.record_filter.passed_over(self._tp, self._unread, self._latest_ms)

    def _pass_over(self, at: int, deadline: float) -> tuple[int, Searched | None, Sequence[_Found]]:
        """Pass over batches in which nothing stands, until the deadline.

        Returns:
            Where the first batch starts that is not done, what was found in it if it has been
            searched, and what is to be judged of the one before it.
        """
        passed = self.scan.pass_over(self._tp, self.data, at, self._searched_to, deadline)
        self._searched_to = passed.searched_to
        self._unread += passed.unread
        self._latest_ms = max(self._latest_ms, passed.latest_ms)
        examine = self.record_filter.examine
        return passed.at, passed.searched, [(record, examine) for record in passed.records]

    def _look_into(self, header: BatchHeader, searched: Searched | None) -> Sequence[_Found]:
        """Return what is to be judged of a batch; the other records are counted.

        Args:
            header: its header.
            searched: what is known of it from `_pass_over`: it is intact then, and not skipped.
        """
        found: Sequence[_Found] = ()
        if searched is None and self._check_crcs:
            batches.check_crc(self.data, header)
        if searched is not None or not self._is_skipped(header):
            found = self._find(header, searched)
        self._searched_to = max(header.next_offset, self._searched_to)
        return found

    def _is_skipped(self, header: BatchHeader) -> bool:
        """Whether a batch holds no records for us: control, aborted, or read before."""
        if self._isolation_level == READ_COMMITTED and header.producer_id >= 0:
            self._consume_aborted_up_to(header.base_offset)
            if header.is_control and self._contains_abort_marker(
                DefaultRecordBatch(self.data[header.start : header.end])
            ):
                self._aborted_producers.discard(header.producer_id)
            if header.is_transactional and header.producer_id in self._aborted_producers:
                return True
        # It may say that its last offset comes before its first one.
        last = max(header.base_offset, header.next_offset - 1)
        return header.is_control or last < self._searched_to

    def _judge_all(self, found: Iterable[_Found]) -> Iterator[tuple[FetchedRecord, Item | None]]:
        """Judge what was found, in order: the last of what has been searched."""
        for judge, records in self._groups(found):
            examined = judge(self._tp, records)
            for number, (record, next_offset, item) in enumerate(examined):
                if item is not None or not number % _UNSAID:
                    self.next_fetch_offset = next_offset
                    yield self._consumer_record(self._tp, record), item
        self.next_fetch_offset = self._searched_to

    def _groups(self, found: Iterable[_Found]) -> Iterator[tuple[_Judge, list[BatchRecord]]]:
        """Put together what is judged alike and follows one another, but no more than a bundle."""
        for judge, group in groupby(found, key=itemgetter(1)):
            records = [record for record, _ in group]
            for start in range(0, len(records), MAX_BUNDLE_RECORDS):
                yield judge, records[start : start + MAX_BUNDLE_RECORDS]

    def _find(self, header: BatchHeader, searched: Searched | None) -> Sequence[_Found]:
        self._latest_ms = max(self._latest_ms, header.max_timestamp_ms)
        # All that may fail comes before the first record goes on: it counts, or its batch does.
        try:
            wanted, judge = self._wanted(header, searched)
        except UnreadableBatchError as error:
            return (self._refuse(header, str(error)),)
        return [(record, judge) for record in wanted]

    def _wanted(
        self, header: BatchHeader, searched: Searched | None
    ) -> tuple[Sequence[Any], _Judge]:
        """Return the records to judge, and how; the others are counted.

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
            # Without a search of the batch, with a batch that was half read before a seek, or where
            # to tell all places might take many times what the batch does.
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
        """Read only the records in which one of these positions lies."""
        ends = batches.record_ends(payload, header.records, max(positions))
        wanted = sorted({bisect_right(ends, position) for position in positions})
        if len(wanted) * _FEW > header.records:
            read = self._read_all(header, payload)
            return [read[number] for number in wanted]
        spans = [batches.span(ends, number) for number in wanted]
        try:
            return batches.parse_some(self.data, header, payload, spans)
        except Exception:  # noqa: BLE001 - whatever aiokafka raises
            return _read_unusual(header, payload, spans)

    def _read_all(self, header: BatchHeader, payload: bytes | memoryview) -> list[Any]:
        try:
            return list(batches.parse(self.data, header, payload))
        except Exception:  # noqa: BLE001 - whatever aiokafka raises
            ends = batches.record_ends(payload, header.records)
            spans = [batches.span(ends, number) for number in range(len(ends))]
            return _read_unusual(header, payload, spans)

    def _refuse(self, header: BatchHeader, reason: str) -> _Found:
        """Let the whole batch go on, as it was fetched, in the place of its records."""
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
        # At most as many as it has offsets, whatever its header says.
        records = max(1, min(header.records, header.next_offset - header.base_offset))
        item = self.record_filter.refuse(self._tp, record, reason, records)
        return record, lambda _, found: iter([Examined(found[0], found[0].offset + 1, item)])

    def _read_old_format(self, data: memoryview) -> Iterator[tuple[FetchedRecord, Item | None]]:
        """Read message sets of format 0 and 1 with aiokafka's reader; it skips what was read."""
        self._records = MemoryRecords(bytes(data))
        for record in self._unpack_records():
            self._latest_ms = max(self._latest_ms, record.timestamp or NO_TIMESTAMP)
            if self.depth >= Depth.RECORD and not self.record_filter.may_match(record.value or b""):
                self._unread += 1
            else:
                for _, _, item in self.record_filter.judge(self._tp, [record]):
                    yield record, item
        self._searched_to = self.next_fetch_offset


_Judge: TypeAlias = Callable[[TopicPartition, list[BatchRecord]], Iterator[Examined]]
_Found: TypeAlias = tuple[BatchRecord, _Judge]
"""A record, or one that stands for a batch that cannot be read, and what to do with it."""


def _check_offsets(header: BatchHeader, records: Sequence[Any]) -> None:
    """Check that records follow each other inside of their batch.

    Raises:
        UnreadableBatchError: they do not.
    """
    before = header.base_offset - 1
    for record in records:
        if not before < record.offset < header.next_offset:
            raise UnreadableBatchError(f"a record of offset {record.offset} follows {before}")
        before = record.offset


def _read_unusual(
    header: BatchHeader, payload: bytes | memoryview, spans: Iterable[tuple[int, int]]
) -> list[Any]:
    try:
        return [read_record(header, payload, span) for span in spans]
    except ValueError as error:
        raise UnreadableBatchError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Reading:
    """How the records of each topic are read; a topic that is not named is left as it is.

    Attributes:
        shelf: where bundles wait for their agents.
        bundled: topics whose records are bundled whole.
        changelogs: topics whose records are bundled for their tables.
        record_filter: the filter of the input topics, None to leave them as they are.
        depth: where the filter drops records.
        native: whether `firstseen-native` passes over batches in which nothing stands.
    """

    shelf: Shelf
    bundled: frozenset[str]
    changelogs: frozenset[str]
    record_filter: RecordFilter | None
    depth: Depth
    native: bool = False

    def bundles(self, topic: str) -> bool:
        """Whether records of this topic reach their agent in bundles."""
        return topic in self.filtered or topic in self.bundled

    @property
    def filtered(self) -> frozenset[str]:
        """The topics whose records the filter reads."""
        return frozenset() if self.record_filter is None else self.record_filter.topics


class FilteringFetcher(Fetcher):
    """Makes bundles of what a fetch brought, before anybody reads from it."""

    reading: Reading
    _scan: BatchScan

    @classmethod
    def adopt(cls, fetcher: Fetcher, reading: Reading) -> None:
        """Turn a fetcher that has not fetched yet (no subscription) into one of ours."""
        fetcher.__class__ = cls
        fetcher.reading = reading
        if reading.record_filter is not None:
            fetcher._scan = batch_scan(  # noqa: SLF001
                reading.record_filter,
                native=reading.native,
                check_crcs=fetcher._check_crcs,  # noqa: SLF001
            )
        FetchClient.adopt(fetcher._client, reading.filtered)  # noqa: SLF001

    @property
    def answered_at(self) -> float:
        """When a broker answered last (`time.monotonic`)."""
        answered_at: float = self._client.answered_at
        return answered_at

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> bool:
        try:
            wake_up: bool = await super()._proc_fetch_request(assignment, node_id, request)
        finally:
            views = self._client.take_views(request)
        # Still in the synchronous step that filled self._records: no reader came in between.
        for topic, partitions in request.topics:
            for partition, *_ in partitions:
                tp = TopicPartition(topic, partition)
                self._take_over(tp, views.get(tp))
        return wake_up

    def _take_over(self, tp: TopicPartition, data: memoryview | None) -> None:
        result = self._records.get(tp)
        if type(result) is not FetchResult:
            return
        records = result._partition_records  # noqa: SLF001
        if type(records) is not PartitionRecords:
            return  # waits from an earlier fetch, and is ours already
        reading = self.reading
        if tp.topic in reading.bundled:
            BundledRecords.adopt(records, reading.shelf)
        elif tp.topic in reading.changelogs:
            ChangelogRecords.adopt(records, reading.shelf)
        elif reading.record_filter is not None and data is not None:
            FilteredRecords.adopt_filtered(
                records,
                reading.shelf,
                reading.record_filter,
                reading.depth,
                data=data,
                scan=self._scan,
            )
