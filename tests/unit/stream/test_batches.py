"""Batches that hurt: read as other clients read them, or refused whole, and the stream goes on."""

from __future__ import annotations

import gzip
import random
import struct

import cramjam
import pytest
import zstandard
from aiokafka.consumer.fetcher import READ_COMMITTED
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.transport import decompression
from pipeline.stream.transport.batches import UnreadableBatchError, batch_header
from pipeline.stream.transport.decompression import Decompressor
from pipeline.stream.transport.filtered_records import FilteredRecords
from pipeline.stream.transport.options import Depth
from tests.record_batches import CODECS, RawRecord, batch, bomb, compress, section
from tests.scans import KINDS
from tests.unit.stream.test_filtered_records import NeedleFilter, items, read_filtered

DEPTHS = [Depth.EVENT, Depth.RECORD, Depth.BATCH]
NEEDLES = [RawRecord(b"needle %d!" % number) for number in range(12)]


def unpacked(compressed: bytes, codec: str) -> bytes:
    data = memoryview(batch(compressed, 1, CODECS[codec]))
    header = batch_header(data, 0)
    assert header is not None
    return bytes(Decompressor().decompress(header.section(data), header.codec))


def xerial(*blocks: bytes) -> bytes:
    framed = (bytes(cramjam.snappy.compress_raw(block)) for block in blocks)
    head = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
    return head + b"".join(struct.pack(">i", len(each)) + each for each in framed)


def unsized(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


@pytest.mark.parametrize(
    ("codec", "compressed"),
    [
        *[(codec, compress(b"one" * 50_000 + b"two", codec)) for codec in CODECS],
        ("gzip", gzip.compress(b"one" * 50_000) + gzip.compress(b"two")),
        ("lz4", compress(b"one" * 50_000, "lz4") + compress(b"two", "lz4")),
        ("snappy", xerial(b"one" * 50_000, b"", b"two")),
        ("zstd", unsized(b"one" * 50_000 + b"two")),
        ("zstd", compress(b"one" * 50_000, "zstd") + compress(b"two", "zstd")),
        ("zstd", unsized(b"one" * 50_000) + unsized(b"two")),
    ],
)
def test_every_form_of_a_codec_is_read_to_its_end(codec: str, compressed: bytes):
    assert unpacked(compressed, codec) == b"one" * 50_000 + b"two"


def a_lie_about_its_size(codec: str) -> bytes:
    if codec == "snappy":
        return b"\xff\xff\xff\xff\x0f"  # four gigabytes follow
    return struct.pack("<IBQ", 0xFD2FB528, 0xE0, 1 << 40)


@pytest.mark.parametrize(
    ("codec", "compressed"),
    [
        ("gzip", bomb("gzip", 8 << 20)),
        ("gzip", gzip.compress(bytes(3 << 19)) * 3),
        ("lz4", compress(bytes(8 << 20), "lz4")),
        ("snappy", compress(bytes(3 << 20), "snappy")),
        ("snappy", xerial(*[bytes(1 << 19)] * 9)),
        ("snappy", a_lie_about_its_size("snappy")),
        ("zstd", bomb("zstd", 8 << 20)),
        ("zstd", compress(bytes(8 << 20), "zstd")),
        ("zstd", compress(bytes(3 << 19), "zstd") * 3),
        ("zstd", a_lie_about_its_size("zstd")),
    ],
)
def test_a_bomb_is_refused_in_every_form(
    codec: str, compressed: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(decompression, "MAX_BATCH_BYTES", 2 << 20)

    with pytest.raises(UnreadableBatchError):
        unpacked(compressed, codec)


@pytest.mark.parametrize("codec", sorted(CODECS.keys() - {"none"}))
@pytest.mark.parametrize("change", [lambda data: data[:-3], lambda _: b"", lambda data: data[3:]])
def test_what_does_not_decompress_is_refused(codec: str, change):
    with pytest.raises(UnreadableBatchError):
        unpacked(change(compress(b"one" * 1_000, codec)), codec)


@pytest.mark.parametrize("size", [-1, -4, 2**31 - 1])
def test_blocks_of_snappy_that_lie_about_their_sizes_end(size: int):
    with pytest.raises(UnreadableBatchError):
        unpacked(xerial() + struct.pack(">i", size), "snappy")


def test_a_codec_that_kafka_does_not_have_is_refused():
    data = memoryview(batch(b"", 1, 7))
    header = batch_header(data, 0)
    assert header is not None

    with pytest.raises(UnreadableBatchError, match="no compression codec 7"):
        Decompressor().decompress(header.section(data), header.codec)


def read(data: bytes, depth: Depth, scan: str) -> tuple[FilteredRecords, NeedleFilter]:
    needle_filter = NeedleFilter()
    records = read_filtered(
        data,
        [],
        position=0,
        isolation=READ_COMMITTED,
        depth=depth,
        needle_filter=needle_filter,
        scan=scan,
    )
    return records, needle_filter


@pytest.mark.parametrize("scan", KINDS)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("needles", [1, 12])
def test_a_header_whose_name_is_no_utf8_is_read_with_its_bytes_written_out(
    depth: Depth, codec: str, needles: int, scan: str
):
    bad = RawRecord(b"needle!", b"key", ((b"\xff\xc3\xa9", b"v"), (b"none", None)))
    records = [bad, *NEEDLES[1:needles], *[RawRecord(b"hay")] * 20]
    data = batch(compress(section(records), codec), len(records), CODECS[codec])
    data += batch(section(NEEDLES), len(NEEDLES), offset=len(records))

    found, needle_filter = read(data, depth, scan)
    first, *others = [record for record, _ in items(found)]

    assert (first.offset, first.key, first.value) == (0, b"key", b"needle!")
    assert first.headers == (("\\xff\u00e9", b"v"), ("none", None))
    assert len(others) == needles - 1 + len(NEEDLES)
    assert needle_filter.refused == []
    assert len(needle_filter.judged) + needle_filter.unread == len(records) + len(NEEDLES)


@pytest.mark.parametrize("scan", KINDS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_batch_that_nobody_can_read_goes_on_whole_and_the_next_one_is_read(
    depth: Depth, scan: str
):
    broken = batch(compress(section(NEEDLES), "zstd")[:-5], 12, CODECS["zstd"])
    data = broken + batch(section(NEEDLES), 12, offset=12)

    found, needle_filter = read(data, depth, scan)
    (refused, what), *others = items(found)

    assert (refused.offset, refused.value, what) == (0, broken, "refused")
    ((offset, value, reason, records),) = needle_filter.refused
    assert (offset, value, records) == (0, broken, 12)
    assert "does not decompress" in reason
    assert [record.offset for record, _ in others] == list(range(12, 24))
    assert found.next_fetch_offset == 24


@pytest.mark.parametrize("scan", KINDS)
@given(
    st.integers(0, 2**32),
    st.sampled_from(sorted(CODECS)),
    st.sampled_from(DEPTHS),
    st.booleans(),
)
def test_whatever_a_batch_holds_its_records_count_once_and_the_next_one_is_read(
    scan: str, seed: int, codec: str, depth: Depth, inside: bool
):
    rng = random.Random(seed)
    records = [
        RawRecord(rng.choice([b"needle!", b"hay", None]), b"k", ((b"h", b"v"),) * rng.randrange(3))
        for _ in range(8)
    ]
    plain = bytearray(section(records))
    compressed = bytearray(compress(bytes(plain), codec))
    changed = plain if inside else compressed
    for _ in range(rng.randrange(1, 4)):
        changed[rng.randrange(len(changed))] = rng.choice((0, 0xFF, 0x80, rng.randrange(256)))
    written = compress(bytes(plain), codec) if inside else bytes(compressed)
    data = batch(written, 8, rng.choice((CODECS[codec],) * 9 + (rng.randrange(8),)))
    data += batch(section(NEEDLES), 12, offset=8)

    found, needle_filter = read(data, depth, scan)
    list(found)

    refused = sum(count for *_, count in needle_filter.refused)
    assert len(needle_filter.judged) + needle_filter.unread + refused == 8 + 12
    assert found.next_fetch_offset == 20
