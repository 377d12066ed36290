"""Record batches made by hand, byte by byte, and a producer that sends what no client would."""

from __future__ import annotations

import asyncio
import gzip
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass

import cramjam
import google_crc32c
import zstandard
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@dataclass(frozen=True)
class RawRecord:
    """A record whose header names are bytes."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[bytes, bytes | None], ...] = ()

    def encode(self, offset: int) -> bytes:
        """Return its bytes, in a batch that begins at offset 0."""
        body = b"\x00" + varint(0) + varint(offset) + _sized(self.key) + _sized(self.value)
        body += varint(len(self.headers))
        body += b"".join(_sized(name) + _sized(value) for name, value in self.headers)
        return varint(len(body)) + body


def varint(number: int) -> bytes:
    """Return an integer of variable length, in zigzag form."""
    left = (number << 1) ^ (number >> 63)
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def _sized(data: bytes | None) -> bytes:
    return varint(-1) if data is None else varint(len(data)) + data


def section(records: Iterable[RawRecord]) -> bytes:
    """Return the records section of a batch, as it is before compression."""
    return b"".join(record.encode(number) for number, record in enumerate(records))


def compress(data: bytes, codec: str) -> bytes:
    """Compress as clients do."""
    if codec == "gzip":
        return gzip.compress(data)
    if codec == "snappy":
        return bytes(cramjam.snappy.compress_raw(data))
    if codec == "lz4":
        return bytes(cramjam.lz4.compress(data))
    return zstandard.compress(data) if codec == "zstd" else data


def bomb(codec: str, size: int) -> bytes:
    """Return a records section of one record of `size` bytes, compressed without making it."""
    chunk = b"a" * (1 << 20)
    start = b"\x00" + varint(0) + varint(0) + varint(-1) + varint(size)
    pieces = [varint(len(start) + size + 1) + start, *[chunk] * (size >> 20), b"\x00"]
    if codec == "gzip":
        return b"".join(_members(pieces, gzip.zlib.compressobj(9, gzip.zlib.DEFLATED, 31)))
    return b"".join(_members(pieces, zstandard.ZstdCompressor().compressobj()))


def _members(pieces: Iterable[bytes], compressor: object) -> Iterable[bytes]:
    for piece in pieces:
        yield compressor.compress(piece)
    yield compressor.flush()


def batch(section: bytes, records: int, codec: int = 0, *, offset: int = 0) -> bytes:
    """Return a batch of format 2 with the right checksum, whatever its section holds."""
    stamp_ms = time.time_ns() // 1_000_000  # retention would delete an older one
    stamps = (records - 1, stamp_ms, stamp_ms, -1, -1, -1, records)
    tail = struct.pack(">hiqqqhii", codec, *stamps) + section
    head = struct.pack(">qiibI", offset, len(tail) + 9, -1, 2, google_crc32c.value(tail))
    return head + tail


def produce_batch(bootstrap: str, topic: str, partition: int, data: bytes) -> None:
    """Send a batch as it is, and wait until it is acknowledged."""
    asyncio.run(_produce_batch(bootstrap, topic, partition, data))


async def _produce_batch(bootstrap: str, topic: str, partition: int, data: bytes) -> None:
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        client.add_topic(topic)
        await client._wait_on_metadata(topic)
        leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        request = ProduceRequest(
            transactional_id=None,
            required_acks=-1,
            timeout=30_000,
            topics=[(topic, [(partition, data)])],
        )
        response = await client.send(leader, request)
        ((_, ((_, code, *_),)),) = response.topics
        if code:
            raise RuntimeError(f"the broker refuses the batch with error {code}")
    finally:
        await client.close()
