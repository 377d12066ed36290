"""Decompression of record batches; zstd and lz4 reuse the same memory for each batch.

Brokers limit only the compressed size of a batch, and 20 KB may decompress to a gigabyte. The code
here never takes more memory than a small multiple of `MAX_BATCH_BYTES`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import cramjam
import zstandard

from pipeline.stream.transport.batches import UnreadableBatchError

MAX_BATCH_BYTES: Final = 128 << 20
"""A batch that decompresses to more is refused: it would be a bomb, not telemetry."""

_ZSTD: Final = 4
_START_BYTES: Final = 1 << 20
_KEPT_BYTES: Final = 16 << 20
_FRAME: Final = struct.Struct("<IB")
_HAS_CHECKSUM: Final = 4
_SKIPPABLE: Final = 0x184D2A50
_SKIPPABLE_MASK: Final = 0xFFFFFFF0
_SKIPPABLE_HEADER: Final = struct.Struct("<II")
_BLOCK_HEADER_BYTES: Final = 3
_USUAL_HEADER_BYTES: Final = 6
_TYPE: Final = 0b110
_RUN_LENGTH: Final = 0b010
_CHECKSUM_BYTES: Final = 4


class Decompressor:
    """Decompresses one batch after another. Not thread-safe."""

    def __init__(self) -> None:
        self._zstd_reader = zstandard.ZstdDecompressor().stream_reader
        self._use(bytearray(_START_BYTES))
        self._others: dict[int, Callable[[memoryview], bytes | memoryview]] = {
            0: _plain,
            1: _gzip,
            2: _snappy,
            3: self._lz4,
        }

    def _use(self, buffer: bytearray) -> None:
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._size = len(buffer)

    @property
    def room(self) -> bytearray:
        """The memory that is reused for each batch, as large as has been needed so far."""
        return self._buffer

    def decompress(self, section: memoryview, codec: int) -> bytes | memoryview:
        """Return the records section of a batch, decompressed.

        The result is valid until the next call.

        Raises:
            UnreadableBatchError: the section cannot be decompressed, decompresses to more than
                `MAX_BATCH_BYTES`, or has a compression codec that Kafka does not have.
        """
        try:
            if codec == _ZSTD:
                return self._zstd(section)
            decoder = self._others.get(codec)
            if decoder is not None:
                return decoder(section)
        except Exception as exc:
            raise UnreadableBatchError(f"it does not decompress: {exc}") from exc
        raise UnreadableBatchError(f"there is no compression codec {codec}")

    def _lz4(self, section: memoryview) -> bytes | memoryview:
        with suppress(cramjam.DecompressionError):  # too little room, or broken: below we find out
            size = cramjam.lz4.decompress_into(section, self._buffer)
            if size < self._size:
                return self._view[:size]
        return _lz4(section)

    def _zstd(self, section: memoryview) -> memoryview:
        _check_frames(section)
        size = self._zstd_reader(section, read_across_frames=True).readinto(self._buffer)
        return self._view[:size] if size < self._size else self._zstd_larger(section)

    def _zstd_larger(self, section: memoryview) -> memoryview:
        # Neither librdkafka nor Java writes the size of the content, so the room is found by
        # trying.
        room = self._size
        while room <= MAX_BATCH_BYTES:
            room = min(4 * room, MAX_BATCH_BYTES + 1)
            buffer = bytearray(room)
            size = self._zstd_reader(section, read_across_frames=True).readinto(buffer)
            if room <= _KEPT_BYTES:
                self._use(buffer)
            if size < room:
                return memoryview(buffer)[:size]
        raise _too_much()


def _check_frames(section: memoryview) -> None:
    """Check that zstd frames are complete, because the reader stops silently where its input ends.

    RFC 8878 has the layout. A block begins with three bytes, low bits first: whether it is the last
    one, its type, and its size. In a block of one repeated byte, the size is the number of repeats.

    Raises:
        ValueError: the input ends within a frame, or before the first one.
    """
    at, end = 0, len(section)
    if not end:
        raise ValueError("there is no frame of zstd")
    while at < end:
        magic, descriptor = _FRAME.unpack_from(section, at)
        if magic & _SKIPPABLE_MASK == _SKIPPABLE:
            at += _SKIPPABLE_HEADER.size + _SKIPPABLE_HEADER.unpack_from(section, at)[1]
            continue
        # Nearly all clients write frame headers with a window size and nothing else.
        usual = not descriptor & ~_HAS_CHECKSUM
        at += _USUAL_HEADER_BYTES if usual else zstandard.frame_header_size(section[at:])
        first = 0
        while not first & 1:
            if at + _BLOCK_HEADER_BYTES > end:
                raise ValueError("a frame of zstd is cut off")
            first = section[at]
            size = first >> 3 | section[at + 1] << 5 | section[at + 2] << 13
            at += _BLOCK_HEADER_BYTES + (1 if first & _TYPE == _RUN_LENGTH else size)
        if descriptor & _HAS_CHECKSUM:
            at += _CHECKSUM_BYTES
    if at > end:
        raise ValueError("a frame of zstd is cut off")


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
    """Decompress to at most `MAX_BATCH_BYTES`, or fail.

    If the greatest compression ratio of the format keeps the output within that limit, the decoder
    may grow its output as it needs. Otherwise it has to write into a buffer of limited size.
    """
    if len(section) * greatest_ratio <= MAX_BATCH_BYTES:
        return bytes(decompress_all(section))
    usual_bytes = min(32 * len(section), MAX_BATCH_BYTES)
    with suppress(cramjam.DecompressionError):
        return _into_buffer(section, usual_bytes, decompress_into)
    try:
        return _into_buffer(section, MAX_BATCH_BYTES, decompress_into)
    except cramjam.DecompressionError as error:
        raise ValueError(f"not to {MAX_BATCH_BYTES} bytes or less: {error}") from error


def _into_buffer(
    section: memoryview, size: int, decompress_into: Callable[[memoryview, bytearray], int]
) -> memoryview:
    output = bytearray(size)
    return memoryview(output)[: decompress_into(section, output)]


_XERIAL_HEADER: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16


def _snappy(section: memoryview) -> bytes:
    """Decompress snappy: Java frames blocks with their sizes, other clients send one bare block."""
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
    # The block states its size, and the decoder would allocate that at once.
    if cramjam.snappy.decompress_raw_len(block) > room:
        raise _too_much()
    return bytes(cramjam.snappy.decompress_raw(block))


def _too_much() -> ValueError:
    return ValueError(f"it decompresses to more than {MAX_BATCH_BYTES} bytes")
