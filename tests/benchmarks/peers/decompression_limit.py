"""The limit of any consumer: decompress the record batches of the topic and do nothing with them.

The batches are read from the broker's log segments, which hold them as they go over the wire, into
memory before the measurement. Of the ways to decompress the fastest one counts; that may be into memory
which is used again and again, since fresh memory is dear.

Record batch, format 2: base offset 8, length 4, leader epoch 4, magic 1, CRC 4, attributes 2, ...,
number of records 4 at byte 57, records from byte 61 on (https://kafka.apache.org/documentation/#recordbatch).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import cramjam
import zstandard

from tests.benchmarks.protocol import Reporter, Task

Buffer: TypeAlias = Any  # what the libraries return: bytes, or something that has them
HEADER = 61
_LZ4, _ZSTD = 3, 4
_MOST = 4 << 20
"""A batch of a hundred events of 4 KB is a tenth of it."""
CANDIDATE = b'"name":"System.Management.Automation'  # once in each


def batches(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield codec, number of records and compressed records of each batch of a log segment."""
    at = 0
    while at + HEADER <= len(data):
        (length,) = struct.unpack_from(">i", data, at + 8)
        if length <= 0:  # the segment is preallocated: nothing follows
            return
        end = at + 12 + length
        (attributes,) = struct.unpack_from(">h", data, at + 21)
        (records,) = struct.unpack_from(">i", data, at + 57)
        yield attributes & 7, records, data[at + HEADER : end]
        at = end


def _zstandard() -> Callable[[bytes], Buffer]:
    decompressor = zstandard.ZstdDecompressor()

    def decompress(data: bytes) -> bytes:
        return decompressor.decompressobj().decompress(data)

    return decompress


def _zstandard_into(memory: bytearray) -> Callable[[bytes], Buffer]:
    decompressor = zstandard.ZstdDecompressor()

    def decompress(data: bytes) -> memoryview:
        return memoryview(memory)[: decompressor.stream_reader(data).readinto(memory)]

    return decompress


def _lz4_into(memory: bytearray) -> Callable[[bytes], Buffer]:
    def decompress(data: bytes) -> memoryview:
        return memoryview(memory)[: cramjam.lz4.decompress_into(data, memory)]

    return decompress


def main() -> None:
    task, reporter = Task.from_arguments(), Reporter()
    logs = Path(task.options["logs"])
    compressed: list[bytes] = []
    consumed, codecs = 0, set()
    for partition in task.ends:
        for segment in sorted((logs / f"{task.topic}-{partition}").glob("*.log")):
            for codec, records, data in batches(segment.read_bytes()):
                codecs.add(codec)
                consumed += records
                compressed.append(data)
    memory = bytearray(_MOST)
    ways: dict[int, list[Callable[[bytes], Buffer]]] = {
        _LZ4: [cramjam.lz4.decompress, _lz4_into(memory)],
        _ZSTD: [cramjam.zstd.decompress, _zstandard(), _zstandard_into(memory)],
    }
    (codec,) = codecs
    sample = compressed[: max(1, len(compressed) // 20)]
    decompress = min(ways[codec], key=lambda way: _seconds(way, sample))
    # Before the measurement: that the bytes are the events.
    found = sum(bytes(decompress(data)).count(CANDIDATE) for data in compressed)
    reporter.start()
    for data in compressed:
        decompress(data)
    reporter.done(
        consumed=consumed,
        found=found,
        batches=len(compressed),
        compressed_bytes=sum(map(len, compressed)),
    )
    reporter.leave()


def _seconds(way: Callable[[bytes], Buffer], sample: list[bytes]) -> float:
    begin = time.process_time()
    for data in sample:
        way(data)
    return time.process_time() - begin


if __name__ == "__main__":
    main()
