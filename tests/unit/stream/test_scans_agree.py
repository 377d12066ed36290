"""Batches that no client sends: whichever scan is used, the same comes out of them."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Iterator
from itertools import accumulate

import cramjam
import google_crc32c
import pytest
import zstandard
from aiokafka.errors import CorruptRecordException
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.transport import filtered_records
from pipeline.stream.transport.options import Depth
from pipeline.stream.transport.scanning import LARGE_BYTES, batch_scan
from tests.record_batches import CODECS, RawRecord, batch, compress, section, varint
from tests.scans import KINDS
from tests.unit.stream.test_batches import NEEDLES, read
from tests.unit.stream.test_filtered_records import TP, NeedleFilter, fields, items

native_only = list(KINDS[1].marks)
HAY = section([RawRecord(b"hay"), RawRecord(b"hay")])
DENSE = section([*NEEDLES[:2], RawRecord(b"hay"), RawRecord(b"hay")])
HEADER = {"base": (0, ">q"), "length": (8, ">i"), "magic": (16, ">b"), "attributes": (21, ">h")}
HEADER |= {"last": (23, ">i"), "first_ms": (27, ">q"), "max_ms": (35, ">q"), "records": (57, ">i")}
INT64 = 2**63
TEXTS = [(b"needle",), (b"needle", b"edle"), (b"need", b"needle", b"lene"), (b"\x02",)]
TEXTS += [
    (b"needle", b"edle", b"eedl", b"lene", b"needlen"),
    (b"needle", b"ed", b"a", b"b", b"lene"),
]


@pytest.fixture(scope="module", autouse=True)
def time_enough() -> Iterator[None]:
    """Let no scan of a busy machine stop early, which shows in what it hands on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filtered_records, "MAX_BUNDLE_SECONDS", 3600.0)
        yield


def changed(data: bytes, **header: int) -> bytes:
    """Return a batch with other fields in its header, and the right checksum."""
    out = bytearray(data)
    for name, value in header.items():
        at, layout = HEADER[name]
        struct.pack_into(layout, out, at, value)
    struct.pack_into(">I", out, 17, google_crc32c.value(bytes(out[21:])))
    return bytes(out)


class TextsFilter(NeedleFilter):
    """Finds all its texts, also where they overlap."""

    def may_match(self, data) -> bool:
        return any(text in bytes(data) for text in self.texts)

    def positions(self, data) -> list[int]:
        found = ((text, re.finditer(b"(?=%b)" % text, bytes(data))) for text in self.texts)
        return [match.start() + len(text) - 1 for text, matches in found for match in matches]


def outcome(data: bytes, scan: str, texts: tuple[bytes, ...] = (b"needle",)) -> dict:
    found, _ = read(data, Depth.BATCH, scan)
    found.record_filter = needle_filter = TextsFilter(texts=texts)
    found.scan = batch_scan(needle_filter, native=scan == "native", check_crcs=True)
    try:
        kept = [(fields(record), how) for record, how in items(found)]
    except CorruptRecordException as error:
        kept = [str(error)]
    seen = (needle_filter.judged, needle_filter.unread, needle_filter.refused)
    return {"kept": kept, "next": found.next_fetch_offset, "seen": seen}


def assert_agreed(data: bytes) -> None:
    """Check that both scans find the same in these batches and in a good one behind them."""
    data += batch(section(NEEDLES), len(NEEDLES), offset=1000)
    assert outcome(data, "native") == outcome(data, "python")


def zstd_of_window(byte: int) -> bytes:
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    frame = bytearray(compressor.compress(HAY) + compressor.flush())
    frame[5] = byte
    return bytes(frame)


def lz4_of_an_old_format(plain: bytes) -> bytes:
    block = bytes(cramjam.lz4.compress_block(plain, store_size=False))
    return struct.pack("<II", 0x184C2102, len(block)) + block


SKIPPED = struct.pack("<II", 0x184D2A50, 3) + b"abc"
EMPTY_BLOCK = b"\x00\x00\x00\x80"


class TestFrames:
    pytestmark = native_only

    @pytest.mark.parametrize("codec", ["lz4", "zstd"])
    @pytest.mark.parametrize("plain", [HAY, DENSE])
    def test_a_frame_that_is_cut_off_anywhere_is_refused_by_both(self, codec: str, plain: bytes):
        frame = compress(plain, codec)
        for size in range(len(frame)):
            data = batch(frame[:size], 2, CODECS[codec])
            assert_agreed(data)
            assert outcome(data, "native")["seen"][2]

    @pytest.mark.parametrize("codec", ["lz4", "zstd"])
    @pytest.mark.parametrize("plain", [b"", HAY, DENSE])
    @pytest.mark.parametrize("more", [b"\x00", b"abcd", b"\x04\x22\x4d\x18", SKIPPED, None])
    def test_frames_with_something_around_them(self, codec: str, plain: bytes, more: bytes | None):
        frame = compress(plain, codec)
        for around in (frame + (more or frame), (more or frame) + frame, more or b""):
            assert_agreed(batch(around, 2, CODECS[codec]))

    def test_a_frame_of_an_old_format_of_lz4_is_refused(self):
        data = batch(lz4_of_an_old_format(HAY), 2, CODECS["lz4"])

        assert_agreed(data)
        assert outcome(data, "native")["seen"][2]

    def test_a_frame_of_lz4_that_ends_with_an_empty_block_and_no_mark_is_refused(self):
        data = batch(compress(HAY, "lz4")[:-8] + EMPTY_BLOCK, 2, CODECS["lz4"])

        assert_agreed(data)
        assert outcome(data, "native")["seen"][2]

    @pytest.mark.parametrize("byte", [0, 17 << 3, (17 << 3) + 1, 18 << 3, 21 << 3, 0xFF])
    def test_a_frame_of_zstd_whose_window_takes_gigabytes(self, byte: int):
        assert_agreed(batch(zstd_of_window(byte), 2, CODECS["zstd"]))

    @pytest.mark.parametrize("codec", ["none", "lz4", "zstd"])
    @pytest.mark.parametrize("needles", [0, 1])
    def test_a_batch_too_large_to_be_searched_whole(self, codec: str, needles: int):
        records = [RawRecord(b"hay" * 100_000)] * (LARGE_BYTES // 300_000) + NEEDLES[:needles]
        plain = section(records)
        for each in (plain, plain + b"x"):
            assert_agreed(batch(compress(each, codec), len(records), CODECS[codec]))


class TestRecords:
    pytestmark = native_only

    def test_what_is_wrong_about_a_batch_of_many_needles_is_wrong_for_both(self):
        for data, records in ((DENSE + b"x", 4), (DENSE, 3), (DENSE, 5), (DENSE[:-1], 4)):
            assert_agreed(batch(data, records))

    @pytest.mark.parametrize("value", [0, 1, 0x7F, 0x80, 0xFF])
    def test_any_byte_of_a_section_may_be_another(self, value: int):
        for at in range(len(DENSE)):
            assert_agreed(batch(DENSE[:at] + bytes([value]) + DENSE[at + 1 :], 4))

    def test_attributes_that_look_like_a_longer_number(self):
        body = b"\x80\x02\x00\x00" + varint(7) + b"needle!" + b"\x02\x00\x00"

        assert_agreed(batch(varint(len(body)) + body, 1))

    @pytest.mark.parametrize("number", [2**31, 2**33, 2**40, INT64 - 1, -1, -(2**34), -INT64])
    @pytest.mark.parametrize("field", range(5))
    def test_numbers_of_more_bits_than_they_have(self, number: int, field: int):
        numbers = [varint(0), varint(0), varint(-1), varint(7) + b"needle!", varint(0)]
        numbers[field] = varint(number)
        body = b"\x00" + b"".join(numbers)

        assert_agreed(batch(varint(len(body)) + body + section([RawRecord(b"needle!")]), 2))


@pytest.mark.parametrize("scan", KINDS)
@pytest.mark.parametrize("depth", [Depth.EVENT, Depth.RECORD, Depth.BATCH])
@pytest.mark.parametrize("plain", [HAY, DENSE])
@pytest.mark.parametrize("number", [0, -1, -100, -(2**31)])
def test_no_count_is_less_than_none_whatever_a_header_says(
    scan: str, depth: Depth, plain: bytes, number: int
):
    """A metric that is told a negative count raises, at each fetch again."""
    before = batch(section(NEEDLES), 12)
    for field in ("records", "last"):
        data = before + changed(batch(plain, 2, offset=12), **{field: number})
        found, needle_filter = read(data, depth, scan)
        list(found)

        assert needle_filter.unread >= 0
        assert all(records > 0 for *_, records in needle_filter.refused)
        assert (len(needle_filter.refused) == 1) or plain == HAY


@pytest.mark.parametrize("scan", KINDS)
@pytest.mark.parametrize("offset", [INT64 - 1, INT64 - 2, INT64 - 4])
@pytest.mark.parametrize("plain", [HAY, DENSE])
def test_offsets_that_no_partition_reaches_are_passed(scan: str, offset: int, plain: bytes):
    found, _ = read(batch(plain, 4, offset=offset) * 2, Depth.BATCH, scan)

    list(found)

    assert found.next_fetch_offset == offset + 4


@pytest.mark.parametrize("scan", KINDS)
def test_a_deadline_that_is_no_number_is_harmless(scan: str):
    passed = batch_scan(NeedleFilter(), native=scan == "native", check_crcs=True).skip_batches(
        TP, memoryview(batch(HAY, 2)), 0, 0, float("nan")
    )

    assert passed.unread in {0, 2}


@pytest.mark.parametrize("codec", ["none", "lz4", "zstd"])
class TestMutated:
    pytestmark = native_only

    @given(st.integers(0, 2**32), st.sampled_from(TEXTS))
    def test_batches_that_were_changed_at_random(
        self, codec: str, seed: int, texts: tuple[bytes, ...]
    ):
        rng = random.Random(seed)
        sizes = [rng.randrange(1, 12) for _ in range(3)]
        data = b""
        for size, offset in zip(sizes, accumulate(sizes, initial=0), strict=False):
            plain = section(some_record(rng) for _ in range(size))
            if rng.random() < 0.3:
                plain = mutated(plain, rng)
            packed = compress(plain, codec)
            if rng.random() < 0.3:
                packed = mutated(packed, rng)
            one = batch(packed, size, CODECS[codec], offset=offset)
            if rng.random() < 0.3:
                one = changed(one, **some_header(rng))
            data += one if rng.random() < 0.95 else one[:-1] + b"?"

        assert outcome(data, "native", texts) == outcome(data, "python", texts)


def some_record(rng: random.Random) -> RawRecord:
    value = rng.choice([b"needle!", b"hay", b"hay", None, b"needleneedle", b"need", b"le"])
    headers = ((rng.choice([b"h", b"\xff", b"needle"]), rng.choice([None, b"v"])),)
    return RawRecord(value, rng.choice([None, b"k"]), headers * rng.choice([0, 0, 0, 1]))


def mutated(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data or b"?")
    at = rng.randrange(len(out))
    match rng.randrange(4):
        case 0:
            del out[at:]
        case 1:
            out += rng.choice([b"\x00", EMPTY_BLOCK, SKIPPED, data])
        case _:
            out[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    return bytes(out)


def some_header(rng: random.Random) -> dict[str, int]:
    choices = {
        "base": [0, 3, INT64 - 1, -1],
        "length": [-1, 48, 49, 60, 2**31 - 1],
        "magic": [-1, 1, 3],
        "attributes": [0, 1, 3, 4, 5, 7, 0x08, 0x0C, 0x14, 0x24, 0x44],
        "last": [-(2**31), -100, -1, 0, 2**31 - 1],
        "first_ms": [-1, INT64 - 1, -INT64],
        "max_ms": [-1, INT64 - 1],
        "records": [-(2**31), -1, 0, 1, 100, 2**31 - 1],
    }
    name = rng.choice(list(choices))
    return {name: rng.choice(choices[name])}
