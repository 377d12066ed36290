"""The filtering iterator against aiokafka's own: the same records, the same next position."""

import re
import struct
from dataclasses import dataclass, field
from typing import NamedTuple
from unittest.mock import patch

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from pipeline.record import Position
from pipeline.stream.transport import batches, filtered_records, scanning
from pipeline.stream.transport.batches import UnreadableBatchError
from pipeline.stream.transport.bundled_records import BundledRecords, ChangelogRecords
from pipeline.stream.transport.bundles import MAX_BUNDLE_RECORDS, BundleBuffer, FetchedRecord
from pipeline.stream.transport.filtered_records import FilteredRecords
from pipeline.stream.transport.options import Depth
from pipeline.stream.transport.record_filter import Examined
from pipeline.stream.transport.scanning import batch_scan
from tests.scans import KINDS

TP = TopicPartition("events", 3)
NEEDLE = b"needle"
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def consumed(tp, record) -> FetchedRecord:
    fields = (record.offset, record.timestamp, record.timestamp_type, record.key, record.value)
    return FetchedRecord(*tp, *fields, tuple(record.headers))


class Kept(NamedTuple):
    record: FetchedRecord
    how: str

    records = 1

    @property
    def size(self) -> int:
        return self.record.size


class KeptRun(NamedTuple):
    record: FetchedRecord
    records: int

    @property
    def size(self) -> int:
        return self.record.size


@dataclass
class NeedleFilter:
    """Keeps records whose value holds the needle and ends with ``!``."""

    topics: frozenset[str] = frozenset({"events"})
    texts: tuple[bytes, ...] = (NEEDLE,)
    unwatched_bytes: int = 1 << 40
    searches: bool = True
    unread: int = 0
    judged: list[int] = field(default_factory=list)
    refused: list[tuple] = field(default_factory=list)

    def may_match(self, data) -> bool:
        return NEEDLE in bytes(data)

    def positions(self, data) -> list[int]:
        found = [match.end() - 1 for match in re.finditer(NEEDLE, bytes(data))]
        return found[::-1]  # in any order

    def note_searched(self, size) -> None:
        pass

    def judge(self, tp, records):
        for record in records:
            yield Examined(record, record.offset + 1, self._judge(tp, record))

    def examine(self, tp, records):
        for record in records:
            may_match = self.may_match(record.value or b"")
            item = self._judge(tp, record) if may_match else None
            self.unread += not may_match
            yield Examined(record, record.offset + 1, item)

    def _judge(self, tp, record):
        self.judged.append(record.offset)
        return Kept(consumed(tp, record), "judged") if matches(record.value) else None

    def refuse(self, tp, record, reason, records):
        self.refused.append((record.offset, record.value, reason, records))
        return Kept(consumed(tp, record), "refused")

    def count_unread(self, tp, records, timestamp_ms) -> None:
        self.unread += records

    def clear(self) -> None:
        pass


def matches(value: bytes | None) -> bool:
    return value is not None and NEEDLE in value and value.endswith(b"!")


@dataclass(frozen=True)
class Batch:
    values: tuple[bytes | None, ...]
    codec: str = "none"
    gaps: tuple[int, ...] = ()
    producer: int = -1
    transactional: bool = False
    control: str | None = None
    tail_gap: int = 0


def encode(batches: list[Batch], start: int = 0) -> tuple[bytes, list[tuple[int, int]]]:
    """Return the bytes of a fetch response and its list of aborted transactions."""
    data, offset, aborted = b"", start, []
    open_since: dict[int, int] = {}
    for batch in batches:
        if batch.transactional and batch.control is None:
            open_since.setdefault(batch.producer, offset)
        if batch.control == "abort" and batch.producer in open_since:
            aborted.append((batch.producer, open_since[batch.producer]))
        if batch.control is not None:
            open_since.pop(batch.producer, None)
        encoded, offset = _encode_batch(batch, offset)
        data += encoded
    # What is still open at the end stays unread; brokers do not send it to committed readers.
    return data, aborted


def _encode_batch(batch: Batch, offset: int) -> tuple[bytes, int]:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=CODECS[batch.codec],
        is_transactional=int(batch.transactional),
        producer_id=batch.producer,
        producer_epoch=0,
        base_sequence=0,
        batch_size=1 << 20,
    )
    delta = 0
    values = batch.values
    if batch.control is not None:
        values = (b"",)
    for number, value in enumerate(values):
        delta += batch.gaps[number] if number < len(batch.gaps) else 0
        key = None
        if batch.control is not None:
            key = struct.pack(">hh", 0, 0 if batch.control == "abort" else 1)
        headers = [("h", b"v")] if number % 2 else []
        builder.append(delta, 1_700_000_000_000 + delta, key, value, headers)
        delta += 1
    encoded = bytearray(builder.build())
    struct.pack_into(">q", encoded, 0, offset)
    struct.pack_into(">i", encoded, 23, delta - 1 + batch.tail_gap)
    if batch.control is not None:
        (attributes,) = struct.unpack_from(">h", encoded, 21)
        struct.pack_into(">h", encoded, 21, attributes | 0x20)
    struct.pack_into(">I", encoded, 17, calc_crc32c(memoryview(encoded)[21:]))
    return bytes(encoded), offset + delta + batch.tail_gap


def read(
    data: bytes, aborted: list[tuple[int, int]], *, position: int, isolation: int
) -> PartitionRecords:
    return PartitionRecords(TP, MemoryRecords(data), aborted, position, None, None, True, isolation)


def read_filtered(data, aborted, *, position, isolation, depth, needle_filter, scan="python"):
    records = read(
        data[: batches.first_batch_end(data)], aborted, position=position, isolation=isolation
    )
    FilteredRecords.adopt_filtered(
        records,
        BundleBuffer(1 << 30),
        needle_filter,
        depth,
        data=memoryview(data),
        scan=batch_scan(needle_filter, native=scan == "native", check_crcs=True),
    )
    return records


def fields(record) -> tuple:
    """Return what Faust and our agents ask of a record."""
    names = "topic partition offset timestamp timestamp_type key value headers checksum"
    names += " serialized_key_size serialized_value_size"
    return tuple(getattr(record, name) for name in names.split())


def items(records) -> list:
    """Return what the bundles hold, all together."""
    return [
        item
        for first in records
        for item in records.bundle_buffer.take(Position(*TP, first.offset)).items
    ]


values = st.one_of(
    st.none(),
    st.sampled_from([b"", b"hay", b"needle", b"a needle!", b"needle in hay!", b"x" * 300]),
)


@st.composite
def batch_lists(draw: st.DrawFn) -> list[Batch]:
    batches = []
    open_transactions: set[int] = set()
    for _ in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["plain", "idempotent", "transaction", "end"]))
        producer = draw(st.integers(1, 3))
        if kind == "end" and producer in open_transactions:
            open_transactions.discard(producer)
            end = draw(st.sampled_from(["commit", "abort"]))
            batches.append(Batch((), producer=producer, transactional=True, control=end))
            continue
        if kind == "transaction":
            open_transactions.add(producer)
        size = draw(st.integers(1, 6))
        batches.append(
            Batch(
                tuple(draw(st.lists(values, min_size=size, max_size=size))),
                codec=draw(st.sampled_from(sorted(CODECS))),
                gaps=tuple(draw(st.lists(st.integers(0, 3), max_size=size))),
                producer=-1 if kind in {"plain", "end"} else producer + 10 * (kind == "idempotent"),
                transactional=kind == "transaction",
                tail_gap=draw(st.integers(0, 3)),
            )
        )
    ends = [
        Batch((), producer=producer, transactional=True, control="commit")
        for producer in sorted(open_transactions)
    ]
    return batches + ends


@pytest.mark.parametrize("scan", KINDS)
@given(
    batch_lists(),
    st.integers(0, 12),
    st.sampled_from([READ_COMMITTED, READ_UNCOMMITTED]),
    st.sampled_from([Depth.EVENT, Depth.RECORD, Depth.BATCH]),
    st.sampled_from([scanning.LARGE_BYTES, 40]),
)
def test_every_depth_yields_what_filtering_afterwards_yields(  # noqa: PLR0917
    scan, batches, position, isolation, depth, large
):
    data, aborted = encode(batches)
    # A broker sends no batch that ends before the position.
    position %= _encode_batch(batches[0], 0)[1]
    plain = read(data, aborted, position=position, isolation=isolation)
    expected = [record for record in plain if matches(record.value)]
    needle_filter = NeedleFilter()

    filtered = read_filtered(
        data,
        aborted,
        position=position,
        isolation=isolation,
        depth=depth,
        needle_filter=needle_filter,
        scan=scan,
    )

    with (
        patch.object(filtered_records, "LARGE_BYTES", large),
        patch.object(scanning, "LARGE_BYTES", large),
    ):
        assert [fields(record) for record, _ in items(filtered)] == [fields(r) for r in expected]
    assert filtered.next_fetch_offset == plain.next_fetch_offset


@pytest.mark.parametrize("scan", KINDS)
@given(batch_lists(), st.sampled_from([Depth.RECORD, Depth.BATCH]))
def test_every_visible_record_is_judged_or_counted_as_passed_over(scan, batches, depth):
    data, aborted = encode(batches)
    visible = list(read(data, aborted, position=0, isolation=READ_COMMITTED))
    needle_filter = NeedleFilter()

    list(
        read_filtered(
            data,
            aborted,
            position=0,
            isolation=READ_COMMITTED,
            depth=depth,
            needle_filter=needle_filter,
            scan=scan,
        )
    )

    assert len(needle_filter.judged) + needle_filter.unread == len(visible)


@pytest.mark.parametrize("scan", KINDS)
def test_a_cut_off_last_batch_is_fetched_again(scan):
    data, _ = encode([Batch((b"needle!",)), Batch((b"needle!",))])
    filtered = read_filtered(
        data[:-5],
        [],
        position=0,
        isolation=READ_COMMITTED,
        depth=Depth.BATCH,
        needle_filter=NeedleFilter(),
        scan=scan,
    )

    assert [record.offset for record, _ in items(filtered)] == [0]
    assert filtered.next_fetch_offset == 1


@pytest.mark.parametrize("scan", KINDS)
@pytest.mark.parametrize("depth", [Depth.EVENT, Depth.RECORD, Depth.BATCH])
def test_a_batch_with_a_wrong_checksum_is_refused(depth, scan):
    data, _ = encode([Batch((b"needle!", b"hay"), codec="zstd")])
    broken = data[:-1] + bytes([data[-1] ^ 1])
    filtered = read_filtered(
        broken,
        [],
        position=0,
        isolation=READ_COMMITTED,
        depth=depth,
        needle_filter=NeedleFilter(),
        scan=scan,
    )

    with pytest.raises(CorruptRecordException):
        list(filtered)


@pytest.mark.parametrize(
    ("magic", "codec"), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3)]
)
def test_message_sets_of_the_old_formats_go_the_long_way(magic, codec):
    builder = LegacyRecordBatchBuilder(magic=magic, compression_type=codec, batch_size=1 << 20)
    for offset, value in enumerate([b"hay", b"needle!", b"needle", b"a needle!"]):
        builder.append(offset, timestamp=1_700_000_000_000, key=None, value=value)
    data = bytearray(builder.build())
    if codec:  # the broker gives the wrapping message the offset of the last one in it
        struct.pack_into(">q", data, 0, 3)
    data = bytes(data)
    needle_filter = NeedleFilter()

    filtered = read_filtered(
        data,
        [],
        position=0,
        isolation=READ_COMMITTED,
        depth=Depth.BATCH,
        needle_filter=needle_filter,
    )

    assert [record.value for record, _ in items(filtered)] == [b"needle!", b"a needle!"]
    assert filtered.next_fetch_offset == 4
    assert len(needle_filter.judged) + needle_filter.unread == 4


def test_a_message_set_of_an_old_format_behind_a_batch_is_read_and_the_batch_once():
    data, _ = encode([Batch((b"hay", b"needle!"))])
    builder = LegacyRecordBatchBuilder(magic=1, compression_type=0, batch_size=1 << 20)
    for offset, value in ((2, b"hay"), (3, b"a needle!")):
        builder.append(offset, timestamp=1_700_000_000_000, key=None, value=value)
    needle_filter = NeedleFilter()

    filtered = read_filtered(
        data + bytes(builder.build()),
        [],
        position=0,
        isolation=READ_COMMITTED,
        depth=Depth.BATCH,
        needle_filter=needle_filter,
    )

    assert [record.value for record, _ in items(filtered)] == [b"needle!", b"a needle!"]
    assert [1, 3] == needle_filter.judged
    assert (filtered.next_fetch_offset, needle_filter.unread) == (4, 2)


def test_records_whose_lengths_do_not_add_up_are_refused():
    for payload, records in ((b"\x04ab\x04", 2), (b"\x04abc", 1), (b"\x03abc", 1)):
        with pytest.raises(UnreadableBatchError):
            batches.record_ends(payload, records)
    assert batches.record_ends(b"\x04ab\x02c", 2) == [3, 5]


def test_a_length_of_more_than_32_bits_is_refused_at_once():
    """A megabyte of it would otherwise be one integer of a megabyte, made a million times."""
    with pytest.raises(UnreadableBatchError):
        batches.record_ends(b"\x80" * (1 << 20), 1)


def test_records_behind_a_place_are_not_looked_at():
    payload = b"\x04ab\x02c\x07broken"

    assert batches.record_ends(payload, 3, until=1) == [3]
    assert batches.record_ends(payload, 3, until=3) == [3, 5]
    with pytest.raises(UnreadableBatchError):
        batches.record_ends(payload, 3, until=5)


def test_a_bundle_is_delivered_as_its_first_record_and_positions_go_past_its_last():
    count = MAX_BUNDLE_RECORDS + 10
    data, _ = encode([Batch(tuple(b"%d" % n for n in range(count)), tail_gap=5)])
    records = read(data, [], position=0, isolation=READ_COMMITTED)
    BundledRecords.adopt(records, BundleBuffer(1 << 30))

    first = next(records)
    between = records.next_fetch_offset
    second = next(records)

    assert (first.offset, between, second.offset) == (0, MAX_BUNDLE_RECORDS, MAX_BUNDLE_RECORDS)
    assert list(records) == []
    assert records.next_fetch_offset == count + 5
    bundle_buffer = records.bundle_buffer
    sizes = [
        len(bundle_buffer.take(Position(*TP, offset)).items) for offset in (0, MAX_BUNDLE_RECORDS)
    ]
    assert sizes == [MAX_BUNDLE_RECORDS, 10]


class RunsFilter(NeedleFilter):
    """Keeps what it is given at once, up to `longest`, as one item; drops each run of `dropped`."""

    longest = 40
    dropped = 3

    def examine(self, tp, records):
        self.judged.append(len(records))
        for number, start in enumerate(range(0, len(records), self.longest)):
            run = records[start : start + self.longest]
            item = KeptRun(consumed(tp, run[0]), len(run)) if number % self.dropped else None
            yield Examined(run[0], run[-1].offset + 1, item)


def test_one_item_may_stand_for_several_records_and_counts_as_so_many():
    count = 2 * MAX_BUNDLE_RECORDS
    values = (b"needle!",) * 100
    data, _ = encode([Batch(values) for _ in range(count // 100)])
    runs = RunsFilter()
    records = read_filtered(
        data,
        [],
        position=0,
        isolation=READ_COMMITTED,
        depth=Depth.BATCH,
        needle_filter=runs,
    )

    bundles = []
    for first in records:
        bundle = records.bundle_buffer.take(Position(*TP, first.offset))
        # Nothing that a bundle holds lies before its first record, or behind the position.
        offsets = [item.record.offset for item in bundle.items]
        last = bundle.items[-1]
        assert first.offset == min(offsets)
        assert last.record.offset + last.records <= records.next_fetch_offset
        bundles.append(bundle)

    assert all(size <= MAX_BUNDLE_RECORDS for size in runs.judged)
    assert sum(runs.judged) == count
    kept = [item for bundle in bundles for item in bundle.items]
    assert [bundle.records for bundle in bundles] == [
        sum(item.records for item in bundle.items) for bundle in bundles
    ]
    assert all(bundle.records < MAX_BUNDLE_RECORDS + runs.longest for bundle in bundles)
    assert len(bundles) > 1
    assert 0 < sum(item.records for item in kept) < count
    assert records.next_fetch_offset == count


def test_a_buffer_knows_how_full_it_is_and_forgets_what_is_let_go():
    data, _ = encode([Batch((b"x" * 600, b"y" * 600))])
    records = read(data, [], position=0, isolation=READ_COMMITTED)
    bundle_buffer = BundleBuffer(1000)
    BundledRecords.adopt(records, bundle_buffer)

    assert not bundle_buffer.is_full("events")
    list(records)
    assert bundle_buffer.is_full("events")
    assert not bundle_buffer.is_full("other")
    bundle_buffer.forget([("other", 3)])
    assert bundle_buffer.is_full("events")
    bundle_buffer.forget([tuple(TP)])
    assert not bundle_buffer.is_full("events")
    assert bundle_buffer.take(Position(*TP, 0)) is None


def test_a_bundle_of_a_changelog_is_delivered_as_its_last_record_and_goes_with_it():
    count = MAX_BUNDLE_RECORDS + 10
    data, _ = encode([Batch(tuple(b"%d" % n for n in range(count)))])
    records = read(data, [], position=0, isolation=READ_COMMITTED)
    bundle_buffer = BundleBuffer(1)
    ChangelogRecords.adopt(records, bundle_buffer)

    delivered = list(records)

    assert [record.offset for record in delivered] == [MAX_BUNDLE_RECORDS - 1, count - 1]
    rows = [row.value for record in delivered for row in record.bundle.items]
    assert rows == [b"%d" % n for n in range(count)]
    assert records.next_fetch_offset == count
    assert bundle_buffer.is_full("events")
    delivered.clear()
    assert not bundle_buffer.is_full("events")
