"""Faust's producer with the one setting that it lacks, and batches that are quick to compress."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

import google_crc32c
import zstandard
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from faust.transport.drivers import aiokafka as driver

from pipeline.stream.transport.batches import (
    ATTRIBUTES_OFFSET,
    CRC_OFFSET,
    HEADER_BYTES,
    LENGTH_OFFSET,
    LENGTH_OVERHEAD,
)

_ZSTD: Final = 4
_LEVEL: Final = 1
"""Compresses events and sightings as well as 3, which is Kafka's default, and takes less time."""
_MIN_BYTES: Final = 200
"""Less than this compresses badly: a row of a changelog stays as it is."""


class ZstdBatch(BatchBuilder):
    """A batch that is compressed by a compressor that is there already.

    aiokafka makes a new one for each batch, which takes longer than to compress some records.
    """

    def __init__(self, compressor: zstandard.ZstdCompressor, batch_size: int) -> None:
        super().__init__(batch_size, 0)
        self._compressor = compressor
        self._built: bytes | bytearray | None = None

    def _build(self) -> bytes | bytearray:
        if self._built is None:
            self._built = self._buffer = self._compressed(super()._build())
        return self._built

    def _compressed(self, plain: bytearray) -> bytes | bytearray:
        records = memoryview(plain)[HEADER_BYTES:]
        if len(records) < _MIN_BYTES:
            return plain
        compressed = self._compressor.compress(records)
        if len(compressed) >= len(records):
            return plain
        batch = bytearray(plain[:HEADER_BYTES])
        batch += compressed
        struct.pack_into(">i", batch, LENGTH_OFFSET, len(batch) - LENGTH_OVERHEAD)
        (attributes,) = struct.unpack_from(">h", batch, ATTRIBUTES_OFFSET)
        struct.pack_into(">h", batch, ATTRIBUTES_OFFSET, attributes | _ZSTD)
        checksum = google_crc32c.value(bytes(memoryview(batch)[ATTRIBUTES_OFFSET:]))
        struct.pack_into(">I", batch, CRC_OFFSET, checksum)
        return batch


class BatchProducer(AIOKafkaProducer):
    """A producer whose explicit batches are `ZstdBatch`, if zstd is what it compresses with."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        is_zstd = settings.get("compression_type") == "zstd"
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL) if is_zstd else None
        self._batch_bytes = settings["max_batch_size"]

    def create_batch(self) -> BatchBuilder:
        if self._compressor is None:
            return super().create_batch()
        return ZstdBatch(self._compressor, self._batch_bytes)


class Producer(driver.Producer):
    """Faust's producer, idempotent unless the broker cannot do it (the embedded one)."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": self.transport.options.enable_idempotence}

    @property
    def _producer_type(self) -> type[AIOKafkaProducer]:
        return BatchProducer
