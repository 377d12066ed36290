"""Record batches of Kafka's format 2, as they come in a fetch response.

Kafka's documentation ("Record Batch") has the layout. Only what the filter needs is read here:
where a batch ends, which offsets it covers, whether it holds control records or a transaction, and
its decompressed records section as one piece of bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

import cramjam
import google_crc32c
import msgspec
import zstandard
from aiokafka.codec import snappy_decode
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatch

MAGIC_OFFSET: Final = 16
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = _HEADER.size
_LENGTH_OVERHEAD: Final = 12  # base offset and length itself are not part of the length
_ATTRIBUTES_OFFSET: Final = 21
_RECORDS_OFFSET: Final = 57

_CODEC_MASK: Final = 0x07
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20

MAX_BATCH_BYTES: Final = 512 << 20
"""A batch that decompresses to more is refused: it would be a bomb, not telemetry."""


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    """What the header of a batch says, and where the batch stands in the response."""

    start: int
    end: int
    base_offset: int
    next_offset: int
    crc: int
    attributes: int
    max_timestamp_ms: int
    producer_id: int
    records: int

    @property
    def codec(self) -> int:
        return self.attributes & _CODEC_MASK

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & _CONTROL)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & _TRANSACTIONAL)


def batch_headers(data: bytes) -> Iterator[BatchHeader | None]:
    """Yield the header of each complete batch.

    None stands for a message set of the old formats (magic 0 and 1), which only aiokafka's own
    reader understands; nothing follows it. A broker may cut the last batch off: it is left out,
    and fetched again.
    """
    position, size = 0, len(data)
    while size - position >= HEADER_BYTES:
        if data[position + MAGIC_OFFSET] < 2:
            yield None
            return
        fields = _HEADER.unpack_from(data, position)
        base, length, _, _, crc, attributes, last_delta, _, max_timestamp, producer = fields[:10]
        end = position + _LENGTH_OVERHEAD + length
        if end > size:
            return
        yield BatchHeader(
            start=position,
            end=end,
            base_offset=base,
            next_offset=base + last_delta + 1,
            crc=crc,
            attributes=attributes,
            max_timestamp_ms=max_timestamp,
            producer_id=producer,
            records=fields[12],
        )
        position = end


def check_crc(data: bytes, header: BatchHeader) -> None:
    """Compare a batch with its checksum.

    Raises:
        CorruptRecordException: they differ.
    """
    # In hardware: aiokafka's own takes a tenth of what decompressing the batch takes.
    checksum = google_crc32c.value(data[header.start + _ATTRIBUTES_OFFSET : header.end])
    if checksum != header.crc:
        raise CorruptRecordException(f"Invalid CRC of the batch at offset {header.base_offset}")


def decompress(data: bytes, header: BatchHeader) -> bytes | memoryview:
    """Return the records section of a batch, decompressed.

    Raises:
        CorruptRecordException: it does not decompress, or to more than `MAX_BATCH_BYTES`.
        UnsupportedCodecError: a codec that Kafka does not have.
    """
    section = memoryview(data)[header.start + HEADER_BYTES : header.end]
    decoder = _DECODERS.get(header.codec)
    if decoder is None:
        raise UnsupportedCodecError(f"unknown compression codec {header.codec}")
    try:
        return decoder(section)
    except Exception as exc:
        raise CorruptRecordException(
            f"the batch at offset {header.base_offset} does not decompress: {exc}"
        ) from exc


def parse(data: bytes, header: BatchHeader, payload: bytes | memoryview) -> DefaultRecordBatch:
    """Return a batch whose records can be iterated, without decompressing it once more."""
    if header.codec == 0:
        return DefaultRecordBatch(memoryview(data)[header.start : header.end])
    plain = _plain_header(data, header)
    plain += payload
    return DefaultRecordBatch(bytes(plain))


def record_spans(payload: bytes | memoryview, records: int) -> Iterator[tuple[int, int]]:
    """Yield where each record of a decompressed records section starts and ends.

    Raises:
        CorruptRecordException: the lengths do not add up.
    """
    start, size = 0, len(payload)
    for _ in range(records):
        # The length: a variable-length integer in zigzag form, low groups of seven bits first.
        position, shift, length, byte = start, 0, 0, 0x80
        while byte & 0x80 and position < size:
            byte = payload[position]
            length |= (byte & 0x7F) << shift
            shift += 7
            position += 1
        end = position + (length >> 1)
        if length & 1 or end > size:
            raise CorruptRecordException(f"a record at byte {start} of {size} has a wrong length")
        yield start, end
        start = end
    if start != size:
        raise CorruptRecordException(f"{size - start} bytes follow the last record of a batch")


def parse_one(
    data: bytes, header: BatchHeader, payload: bytes | memoryview, span: tuple[int, int]
) -> Any:
    """Return the record of this span."""
    plain = _plain_header(data, header)
    struct.pack_into(">i", plain, _RECORDS_OFFSET, 1)
    plain += payload[span[0] : span[1]]
    return next(DefaultRecordBatch(bytes(plain)))


def _plain_header(data: bytes, header: BatchHeader) -> bytearray:
    """Return the header of a batch as if it were not compressed."""
    plain = bytearray(data[header.start : header.start + HEADER_BYTES])
    struct.pack_into(">h", plain, _ATTRIBUTES_OFFSET, header.attributes & ~_CODEC_MASK)
    return plain


def _plain(section: memoryview) -> memoryview:
    return section


def _gzip(section: memoryview) -> bytes:
    return bytes(cramjam.gzip.decompress(section))


def _snappy(section: memoryview) -> bytes:
    return bytes(snappy_decode(section.tobytes()))


def _lz4(section: memoryview) -> bytes:
    return bytes(cramjam.lz4.decompress(section))


_zstd_context = zstandard.ZstdDecompressor()


def _zstd(section: memoryview) -> bytes:
    # librdkafka and Java write the size of the content; without it the output is grown as needed.
    if zstandard.frame_content_size(section) > MAX_BATCH_BYTES:
        raise ValueError(f"more than {MAX_BATCH_BYTES} bytes")
    try:
        return _zstd_context.decompress(section, max_output_size=32 * len(section))
    except zstandard.ZstdError:
        return _zstd_context.decompress(section, max_output_size=MAX_BATCH_BYTES)


_DECODERS: Final[dict[int, Callable[[memoryview], bytes | memoryview]]] = {
    0: _plain,
    1: _gzip,
    2: _snappy,
    3: _lz4,
    4: _zstd,
}
