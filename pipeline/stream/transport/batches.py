"""Record batches of Kafka's format 2, as they come in a fetch response.

The layout is in Kafka's documentation ("Record Batch"). Only what the filter needs is read here:
where a batch ends, which offsets it covers, whether it holds control records or belongs to a
transaction, and where each record lies in the decompressed records section.

Anybody who may write to the topic can write a batch, and each broker version checks other parts of
it. What cannot be read here raises an `UnreadableBatchError`; it never causes an endless loop.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import google_crc32c
import msgspec
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch

MAGIC: Final = 2
MAGIC_OFFSET: Final = 16
CRC_OFFSET: Final = 17
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = _HEADER.size
unpack_header: Final = _HEADER.unpack_from
"""Unpacks the header of a batch.

Returns base offset, length, leader epoch, magic, checksum, attributes, last offset delta, first and
greatest timestamp, producer's id and epoch, base sequence and number of records.
"""
_LENGTH: Final = struct.Struct(">i")
LENGTH_OFFSET: Final = 8
LENGTH_OVERHEAD: Final = 12  # does not count the base offset and the length itself
ATTRIBUTES_OFFSET: Final = 21
_RECORDS_OFFSET: Final = 57

_LONGEST_SHIFT: Final = 28
"""The shift of the last group: a length has 32 bits, which makes five groups of seven."""

CODEC_MASK: Final = 0x07
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
OF_TRANSACTIONS: Final = _TRANSACTIONAL | _CONTROL
"""Attributes of batches that cannot simply be read."""


class UnreadableBatchError(Exception):
    """A batch whose checksum is right, but whose records cannot be read, now or later."""


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    """The header of a batch, and the start and end of the batch in the response."""

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
        return self.attributes & CODEC_MASK

    def section(self, data: memoryview) -> memoryview:
        """Return the batch's records section as it was fetched, which may be compressed."""
        return data[self.start + HEADER_BYTES : self.end]

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & _CONTROL)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & _TRANSACTIONAL)


def batch_header(data: memoryview, start: int) -> BatchHeader | None:
    """Return the header of the batch that starts at a position.

    Returns None if no complete batch starts there: a broker may cut off the last batch of a
    response, which is then fetched again. The position must not be the start of a message set of an
    old format (`is_old_format`).

    Raises:
        CorruptRecordException: the batch claims to end before its header does.
    """
    if len(data) - start < HEADER_BYTES:
        return None
    fields = unpack_header(data, start)
    base, length, _, _, crc, attributes, last_delta, first, latest, producer = fields[:10]
    end = start + LENGTH_OVERHEAD + length
    if end < start + HEADER_BYTES:
        raise CorruptRecordException(f"the batch at offset {base} says it has {length} bytes")
    if end > len(data):
        return None
    return BatchHeader(
        start=start,
        end=end,
        base_offset=base,
        next_offset=base + last_delta + 1,
        crc=crc,
        attributes=attributes,
        first_timestamp_ms=first,
        max_timestamp_ms=latest,
        producer_id=producer,
        records=max(0, fields[12]),
    )


def is_old_format(data: memoryview, start: int) -> bool:
    """Whether a message set of magic 0 or 1 starts at a position; nothing else follows such a set.

    Only aiokafka's own reader can read them.
    """
    return len(data) - start >= HEADER_BYTES and data[start + MAGIC_OFFSET] < MAGIC


def first_batch_end(data: bytes | memoryview) -> int | None:
    """Return where the first batch (of any format) ends, or None if it is cut off."""
    if len(data) < LENGTH_OVERHEAD:
        return None
    (length,) = _LENGTH.unpack_from(data, LENGTH_OFFSET)
    end: int = LENGTH_OVERHEAD + length
    return end if end <= len(data) else None


def checksum(data: memoryview, start: int, end: int) -> int:
    """Return the checksum that a batch must have."""
    # In hardware: aiokafka's own takes a tenth of the time that decompressing the batch takes.
    found: int = google_crc32c.value(bytes(data[start + ATTRIBUTES_OFFSET : end]))
    return found


def check_crc(data: memoryview, header: BatchHeader) -> None:
    """Compare a batch with its checksum.

    Raises:
        CorruptRecordException: they differ.
    """
    if checksum(data, header.start, header.end) != header.crc:
        raise CorruptRecordException(f"Invalid CRC of the batch at offset {header.base_offset}")


def parse(data: memoryview, header: BatchHeader, payload: bytes | memoryview) -> DefaultRecordBatch:
    """Return an iterable batch of records from a payload that is already decompressed."""
    if header.codec == 0:
        return DefaultRecordBatch(data[header.start : header.end])
    return DefaultRecordBatch(b"".join((_plain_header(data, header), payload)))


def record_ends(payload: bytes | memoryview, records: int, until: int | None = None) -> list[int]:
    """Return where each record of a decompressed records section ends.

    Args:
        payload: the section.
        records: the number of records in it.
        until: a position in it; records after the one at this position are not looked at.

    Raises:
        UnreadableBatchError: the lengths do not add up.
    """
    ends = []
    start, size = 0, len(payload)
    last = size if until is None else until
    try:
        for _ in range(records):
            # The length is a zigzag integer in groups of seven bits, low group first; mostly two
            # groups.
            low, high = payload[start], payload[start + 1]
            if low >= 0x80 > high and not low & 1:
                end = start + 2 + ((low & 0x7F | high << 7) >> 1)
            else:
                end = _record_end(payload, start)
            if end > size:
                raise _wrong_length(start, size)
            ends.append(end)
            start = end
            if end > last:
                return ends
    except IndexError as error:
        raise UnreadableBatchError(f"a record at byte {start} of {size} has no length") from error
    if start != size:
        raise UnreadableBatchError(f"{size - start} bytes follow the last record of a batch")
    return ends


def _record_end(payload: bytes | memoryview, start: int) -> int:
    """Return where a record ends whose length may take any number of bytes.

    Raises:
        UnreadableBatchError: the length is negative, or takes more bytes than a length may.
    """
    byte, position, shift, length = 0x80, start, 0, 0
    while byte >= 0x80 and shift <= _LONGEST_SHIFT:
        byte = payload[position]
        position += 1
        length |= (byte & 0x7F) << shift
        shift += 7
    if byte >= 0x80 or length & 1:
        raise _wrong_length(start, len(payload))
    return position + (length >> 1)


def _wrong_length(start: int, size: int) -> UnreadableBatchError:
    return UnreadableBatchError(f"a record at byte {start} of {size} has a wrong length")


def span(ends: Sequence[int], number: int) -> tuple[int, int]:
    """Return where a record starts and ends."""
    return ends[number - 1] if number else 0, ends[number]


def parse_some(
    data: memoryview,
    header: BatchHeader,
    payload: bytes | memoryview,
    spans: Sequence[tuple[int, int]],
) -> list[Any]:
    """Return the records of these spans."""
    plain = _plain_header(data, header)
    struct.pack_into(">i", plain, _RECORDS_OFFSET, len(spans))
    for start, end in spans:
        plain += payload[start:end]
    return list(DefaultRecordBatch(bytes(plain)))


def _plain_header(data: memoryview, header: BatchHeader) -> bytearray:
    """Return the header of a batch with its compression attribute cleared."""
    plain = bytearray(data[header.start : header.start + HEADER_BYTES])
    struct.pack_into(">h", plain, ATTRIBUTES_OFFSET, header.attributes & ~CODEC_MASK)
    return plain
