"""Record batches of Kafka's format 2, as they come in a fetch response.

Kafka's documentation ("Record Batch") has the layout. Only what the filter needs is read here:
where a batch ends, which offsets it covers, whether it holds control records or a transaction, and
its decompressed records section as one piece of bytes.

A batch is written by whoever may write to the topic. Brokers check some of it, each its own way,
and limit its compressed size alone: 20 KB may decompress to a gigabyte. What cannot be read here is
an `UnreadableBatchError`, never an endless loop and never more memory than a small multiple of
`MAX_BATCH_BYTES`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

import cramjam
import google_crc32c
import msgspec
import zstandard
from aiokafka.errors import CorruptRecordException
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

MAX_BATCH_BYTES: Final = 128 << 20
"""A batch that decompresses to more is refused: it would be a bomb, not telemetry."""


class UnreadableBatchError(Exception):
    """A batch whose checksum is right and whose records cannot be read: not now, not later."""


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    """What the header of a batch says, and where the batch stands in the response."""

    start: int
    end: int
    base_offset: int
    next_offset: int
    crc: int
    attributes: int
    first_timestamp_ms: int
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

    Raises:
        CorruptRecordException: a batch says that it ends before its header does.
    """
    position, size = 0, len(data)
    while size - position >= HEADER_BYTES:
        if data[position + MAGIC_OFFSET] < 2:
            yield None
            return
        fields = _HEADER.unpack_from(data, position)
        base, length, _, _, crc, attributes, last_delta, first, latest, producer = fields[:10]
        end = position + _LENGTH_OVERHEAD + length
        if end < position + HEADER_BYTES:
            raise CorruptRecordException(f"the batch at offset {base} says it has {length} bytes")
        if end > size:
            return
        yield BatchHeader(
            start=position,
            end=end,
            base_offset=base,
            next_offset=base + last_delta + 1,
            crc=crc,
            attributes=attributes,
            first_timestamp_ms=first,
            max_timestamp_ms=latest,
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
        UnreadableBatchError: it does not decompress, to more than `MAX_BATCH_BYTES`, or it is
            compressed in a way that Kafka does not have.
    """
    section = memoryview(data)[header.start + HEADER_BYTES : header.end]
    decoder = _DECODERS.get(header.codec)
    if decoder is None:
        raise UnreadableBatchError(f"there is no compression codec {header.codec}")
    try:
        return decoder(section)
    except Exception as exc:
        raise UnreadableBatchError(f"it does not decompress: {exc}") from exc


def parse(data: bytes, header: BatchHeader, payload: bytes | memoryview) -> DefaultRecordBatch:
    """Return a batch whose records can be iterated, without decompressing it once more."""
    if header.codec == 0:
        return DefaultRecordBatch(memoryview(data)[header.start : header.end])
    return DefaultRecordBatch(b"".join((_plain_header(data, header), payload)))


def record_spans(payload: bytes | memoryview, records: int) -> Iterator[tuple[int, int]]:
    """Yield where each record of a decompressed records section starts and ends.

    Raises:
        UnreadableBatchError: the lengths do not add up.
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
            raise UnreadableBatchError(f"a record at byte {start} of {size} has a wrong length")
        yield start, end
        start = end
    if start != size:
        raise UnreadableBatchError(f"{size - start} bytes follow the last record of a batch")


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


def _gzip(section: memoryview) -> bytes | memoryview:
    return _bounded(section, 1032, cramjam.gzip.decompress, cramjam.gzip.decompress_into)


def _lz4(section: memoryview) -> bytes | memoryview:
    return _bounded(section, 255, cramjam.lz4.decompress, cramjam.lz4.decompress_into)


def _bounded(
    section: memoryview,
    greatest_ratio: int,
    decompress_all: Callable[[memoryview], Any],
    decompress_into: Callable[[memoryview, bytearray], int],
) -> bytes | memoryview:
    """Decompress with a decoder that grows its output as it needs, if the format bounds that."""
    if len(section) * greatest_ratio <= MAX_BATCH_BYTES:
        return bytes(decompress_all(section))
    for room in (min(32 * len(section), MAX_BATCH_BYTES), MAX_BATCH_BYTES):
        output = bytearray(room)
        try:
            return memoryview(output)[: decompress_into(section, output)]
        except cramjam.DecompressionError as error:
            refused = error
    raise ValueError(f"not to {MAX_BATCH_BYTES} bytes or less: {refused}")


_XERIAL_HEADER: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16


def _snappy(section: memoryview) -> bytes:
    """Java frames snappy in blocks with their sizes, other clients send one block without."""
    if section[: len(_XERIAL_HEADER)].tobytes() != _XERIAL_HEADER:
        return _snappy_block(section, MAX_BATCH_BYTES)
    blocks, room = [], MAX_BATCH_BYTES
    position = _XERIAL_HEADER_BYTES
    while position < len(section):
        (size,) = _SIZE.unpack_from(section, position)
        position += _SIZE.size
        if size > len(section) - position:
            raise ValueError(f"a block of {size} bytes is cut off")
        blocks.append(_snappy_block(section[position : position + size], room))
        room -= len(blocks[-1])
        position += size
    return b"".join(blocks)


_SIZE: Final = struct.Struct(">I")


def _snappy_block(block: memoryview, room: int) -> bytes:
    # It says so itself, and the decoder would allocate it at once.
    if cramjam.snappy.decompress_raw_len(block) > room:
        raise _too_much()
    return bytes(cramjam.snappy.decompress_raw(block))


_zstd_context = zstandard.ZstdDecompressor()
_ZSTD_PIECE: Final = 1024
"""So much at a time is decompressed where nobody knows to how much: to 32 MiB at most."""


def _zstd(section: memoryview) -> bytes:
    # librdkafka and Java write the size of the content. Where it is missing, and where several
    # frames follow each other, which a decoder may read as one, the output grows in pieces.
    if zstandard.frame_content_size(section) > MAX_BATCH_BYTES:
        raise _too_much()
    try:
        return _zstd_context.decompress(
            section, max_output_size=32 * len(section), allow_extra_data=False
        )
    except zstandard.ZstdError:
        return b"".join(_zstd_pieces(section))


def _zstd_pieces(section: memoryview) -> Iterator[bytes]:
    frame = _zstd_context.decompressobj()
    position = size = 0
    while position < len(section):
        if frame.eof:
            frame = _zstd_context.decompressobj()
        piece = section[position : position + _ZSTD_PIECE]
        part = frame.decompress(piece)
        position += len(piece) - len(frame.unused_data)
        size += len(part)
        if size > MAX_BATCH_BYTES:
            raise _too_much()
        yield part
    if not frame.eof:
        raise ValueError("the last frame is cut off")


def _too_much() -> ValueError:
    return ValueError(f"it decompresses to more than {MAX_BATCH_BYTES} bytes")


_DECODERS: Final[dict[int, Callable[[memoryview], bytes | memoryview]]] = {
    0: _plain,
    1: _gzip,
    2: _snappy,
    3: _lz4,
    4: _zstd,
}
