"""Batches of ours are what aiokafka's own reader, and so any consumer, reads back."""

import asyncio
import random

import pytest
import zstandard
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from pipeline.stream.outbox import Outgoing
from pipeline.stream.transport.producer import Batch, BatchProducer, NativeBatch, ZstdBatch
from tests.scans import KINDS

CODEC = {"plain": 0, "zstd": 4}
MS = 1_700_000_000_000


@pytest.fixture(params=KINDS)
def batch_of(request):
    """Make batches of so many bytes, in Python and not."""
    if request.param == "native":
        return NativeBatch
    return lambda size: ZstdBatch(zstandard.ZstdCompressor(level=1), size)


def records(*values, key=b"k", headers=(("h", b"v"),)):
    return [Outgoing(key, value, headers) for value in values]


@pytest.mark.parametrize(
    ("values", "codec"),
    [
        ([b"short"], "plain"),
        ([b"a" * 1000], "zstd"),
        ([b'{"a": %d}' % n for n in range(1000)], "zstd"),
        ([random.Random(1).randbytes(1000)], "plain"),
        ([None, b"", b"row" * 100], "zstd"),
    ],
    ids=["short", "one", "many", "random", "tombstone"],
)
def test_a_batch_is_read_back_as_it_was_filled(batch_of, values, codec):
    batch = batch_of(1 << 20)
    later = len(values) // 2
    assert batch.extend(records(*values[:later]), 0, MS) == later
    assert batch.extend(records(b"not this", *values[later:]), 1, MS + 5) == len(values) - later
    batch.close()
    batch._set_producer_state(77, 5, 1234)

    built = bytes(batch._build())

    assert bytes(batch._build()) == built
    assert batch.size() == len(built)
    assert batch.record_count() == len(values)
    assert batch.closed()
    read = MemoryRecords(built).next_batch()
    assert isinstance(read, DefaultRecordBatch)
    assert read.validate_crc()
    assert (read.producer_id, read.producer_epoch, read.base_sequence) == (77, 5, 1234)
    assert (read.compression_type, read.last_offset_delta) == (CODEC[codec], len(values) - 1)
    assert read.max_timestamp == MS + 5
    assert [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in read] == [
        (number, MS + 5 * (number >= later), b"k", value, [("h", b"v")])
        for number, value in enumerate(values)
    ]


@pytest.mark.parametrize("_native", KINDS[1:])
@pytest.mark.parametrize(
    "record",
    [
        Outgoing(b"", None),
        Outgoing(b"k" * 300, b"v" * 70_000),
        Outgoing(b"k", b"v", (("a", b""), ("\u00e4" * 80, b"x" * 200))),
    ],
    ids=["empty", "long", "headers"],
)
def test_both_write_the_same_records(record, _native):
    batches = [ZstdBatch(zstandard.ZstdCompressor(level=1), 1 << 25), NativeBatch(1 << 25)]
    read = []
    for batch in batches:
        for timestamp_ms in (MS, MS - 1_000_000, MS + 1):
            batch.extend([record] * 70, 0, timestamp_ms)
        found = MemoryRecords(bytes(batch._build())).next_batch()
        assert found.validate_crc()
        fields = (found.first_timestamp, found.max_timestamp, found.producer_id)
        read.append((fields, [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in found]))

    assert read[0] == read[1]
    assert len(read[0][1]) == 210


def test_a_full_batch_takes_no_more(batch_of):
    batch = batch_of(1000)

    assert batch.extend(records(*[b"x" * 290] * 5), 0, MS) == 3
    assert batch.extend(records(b"x"), 0, MS) == 0 or batch.record_count() == 4
    assert batch.size() <= 1000


def test_one_record_always_fits(batch_of):
    batch = batch_of(100)

    assert batch.extend(records(b"x" * 300, b""), 0, MS) == 1


def test_a_batch_that_was_handed_over_takes_no_single_records(batch_of):
    batch = batch_of(1000)
    batch.extend(records(b"x"), 0, MS)
    batch.close()

    assert batch.append(timestamp=MS, key=b"k", value=b"v", headers=[]) is None
    assert batch.record_count() == 1


@pytest.mark.parametrize(
    ("compression", "native", "kind", "codec"),
    [
        ("zstd", False, ZstdBatch, 4),
        ("gzip", False, Batch, 1),
        (None, False, Batch, 0),
        pytest.param("zstd", True, NativeBatch, 4, marks=KINDS[1].marks),
        pytest.param("gzip", True, Batch, 1, marks=KINDS[1].marks),
    ],
)
def test_batches_are_compressed_as_the_settings_say(compression, native, kind, codec):
    async def made():
        producer = BatchProducer(
            bootstrap_servers="127.0.0.1:1",
            compression_type=compression,
            max_batch_size=10_000,
            native=native,
        )
        batch = producer.create_batch()
        await producer.stop()
        return batch

    batch = asyncio.run(made())
    assert batch.extend(records(b"x" * 500, b"y" * 500), 0, MS) == 2
    batch.close()

    assert type(batch) is kind
    read = MemoryRecords(bytes(batch._build())).next_batch()
    assert read.compression_type == codec
    assert [record.value for record in read] == [b"x" * 500, b"y" * 500]
