"""Batches are decompressed whole, or refused."""

import random
import struct

import pytest
import zstandard

from pipeline.stream.transport import decompression
from pipeline.stream.transport.batches import UnreadableBatchError
from pipeline.stream.transport.decompression import Decompressor

ZSTD = 4


def decompress(section: bytes, decompressor: Decompressor | None = None) -> bytes:
    return bytes((decompressor or Decompressor()).decompress(memoryview(section), ZSTD))


def streamed(content: bytes, *, checksum: bool = False) -> bytes:
    """Return a frame as librdkafka and Java write it: without the size of its content."""
    compressor = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=False)
    stream = compressor.compressobj()
    return stream.compress(content) + stream.flush()


CONTENTS = {
    "empty": b"",
    "short": b"abc",
    "repeated": b"a" * 300_000,  # blocks of one byte
    "random": random.Random(1).randbytes(300_000),  # blocks as they are
    "text": b" ".join(b"%d" % n for n in range(200_000)),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("checksum", [False, True])
def test_frames_of_zstd_are_decompressed_with_and_without_a_size_and_a_checksum(content, checksum):
    sized = zstandard.ZstdCompressor(write_checksum=checksum).compress(content)
    skippable = struct.pack("<II", 0x184D2A53, 5) + b"12345"

    assert decompress(streamed(content, checksum=checksum)) == content
    assert decompress(sized) == content
    assert decompress(sized + skippable + streamed(b"more", checksum=checksum)) == content + b"more"


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("checksum", [False, True])
def test_a_frame_that_is_cut_off_is_refused_wherever_it_is_cut(content, checksum):
    frame = streamed(content, checksum=checksum)
    cuts = {*range(1, min(20, len(frame))), *range(1, len(frame), 977), len(frame) - 1}
    for cut in cuts:
        with pytest.raises(UnreadableBatchError, match="does not decompress"):
            decompress(frame[:cut])


def test_a_broken_frame_is_refused():
    frame = bytearray(streamed(CONTENTS["text"], checksum=True))
    frame[len(frame) // 2] ^= 0x55
    with pytest.raises(UnreadableBatchError):
        decompress(bytes(frame))


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 9 << 20])
def test_content_longer_than_the_memory_is_decompressed_whole(size):
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    decompressor = Decompressor()
    assert decompress(streamed(content), decompressor=decompressor) == content
    assert decompress(streamed(b"next"), decompressor=decompressor) == b"next"


def test_content_beyond_the_bound_is_refused(monkeypatch):
    monkeypatch.setattr(decompression, "MAX_BATCH_BYTES", 3 << 20)
    assert len(decompress(streamed(bytes(3 << 20)))) == 3 << 20
    with pytest.raises(UnreadableBatchError, match="more than 3145728 bytes"):
        decompress(streamed(bytes((3 << 20) + 1)))
