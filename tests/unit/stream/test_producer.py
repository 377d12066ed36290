"""Batches of ours are what aiokafka's own reader, and so any consumer, reads back."""

import random

import pytest
import zstandard
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from pipeline.stream.transport.producer import ZstdBatch

CODEC = {"plain": 0, "zstd": 4}


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
def test_a_batch_is_read_back_as_it_was_filled(values, codec):
    batch = ZstdBatch(zstandard.ZstdCompressor(level=3), 1 << 20)
    for number, value in enumerate(values):
        batch.append(
            timestamp=1_700_000_000_000 + number, key=b"k", value=value, headers=[("h", b"v")]
        )
    batch.close()
    batch._set_producer_state(77, 5, 1234)

    built = bytes(batch._build())

    assert bytes(batch._build()) == built
    assert batch.size() == len(built)
    read = MemoryRecords(built).next_batch()
    assert isinstance(read, DefaultRecordBatch)
    assert read.validate_crc()
    assert (read.producer_id, read.compression_type) == (77, CODEC[codec])
    assert [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in read] == [
        (number, 1_700_000_000_000 + number, b"k", value, [("h", b"v")])
        for number, value in enumerate(values)
    ]


def test_a_full_batch_takes_no_more():
    batch = ZstdBatch(zstandard.ZstdCompressor(level=3), 1000)
    taken = [batch.append(timestamp=0, key=b"k", value=b"x" * 300) is not None for _ in range(5)]
    assert taken == [True, True, True, False, False]
