"""Reads records that aiokafka cannot read, although other clients can.

The name of a header need not be UTF-8: brokers do not check it, librdkafka sends any bytes, and
Java's client replaces what it cannot decode. aiokafka raises an error every time it comes to such a
record, so its partition would stand still for good.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.stream.transport.batches import BatchHeader

_LOG_APPEND_TIME = 0x08
_INT64 = 2**63


class PlainRecord(NamedTuple):
    """A record, with the attributes of aiokafka's records that are used here."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def read_record(
    header: BatchHeader, payload: bytes | memoryview, span: tuple[int, int]
) -> PlainRecord:
    r"""Return the record of this span.

    A byte in a header's name that is not valid UTF-8 becomes four characters, as in ``\xff``.

    Raises:
        ValueError: the lengths that the record states do not add up.
    """
    fields = _Fields(payload, *span)
    fields.number()  # its length, which the span is based on
    fields.take(1)  # attributes, unused
    timestamp = header.first_timestamp_ms + fields.number()
    if header.attributes & _LOG_APPEND_TIME:
        timestamp = header.max_timestamp_ms
    offset = header.base_offset + fields.number()
    key, value = fields.sized(), fields.sized()
    headers = tuple(
        ((fields.sized() or b"").decode("utf-8", "backslashreplace"), fields.sized())
        for _ in range(fields.number())
    )
    if fields.left:
        raise ValueError(f"{fields.left} bytes follow the last header of a record")
    return PlainRecord(
        offset,
        min(max(timestamp, -_INT64), _INT64 - 1),
        int(bool(header.attributes & _LOG_APPEND_TIME)),
        key,
        value,
        headers,
    )


class _Fields:
    """Reads one record from its start to its end, and never past it."""

    def __init__(self, payload: bytes | memoryview, start: int, end: int) -> None:
        self._data = bytes(payload[start:end])
        self._position = 0

    @property
    def left(self) -> int:
        """How many bytes have not been read yet."""
        return len(self._data) - self._position

    def take(self, size: int) -> bytes:
        if not 0 <= size <= self.left:
            raise ValueError(f"a record ends {size - self.left} bytes before its field does")
        taken = self._data[self._position : self._position + size]
        self._position += size
        return taken

    def number(self) -> int:
        """Read an integer of variable length, in zigzag form."""
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def sized(self) -> bytes | None:
        """Read bytes that follow their length; a negative length stands for None."""
        size = self.number()
        return None if size < 0 else self.take(size)
