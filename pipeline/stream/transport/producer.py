"""Faust's producer with the one setting that it lacks, and with batches that compress quickly."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import google_crc32c
import zstandard
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from faust.transport.drivers import aiokafka as driver

from pipeline.record import Headers
from pipeline.stream.transport.batches import (
    ATTRIBUTES_OFFSET,
    CRC_OFFSET,
    HEADER_BYTES,
    LENGTH_OFFSET,
    LENGTH_OVERHEAD,
)

_ZSTD: Final = 4
_LEVEL: Final = 1
"""Compresses events and sightings as well as level 3, Kafka's default, in less time."""
_MIN_BYTES: Final = 200
"""Less than this compresses badly, so a row of a changelog is left uncompressed."""


_NO_PRODUCER: Final = (-1, -1, 0)
"""Id, epoch and first sequence number of a producer that is not idempotent."""

_Record: TypeAlias = tuple[bytes | None, bytes | None, Headers]


class Batch(BatchBuilder):
    """A batch that is compressed by aiokafka."""

    def extend(self, records: Sequence[_Record], start: int, timestamp_ms: int) -> int:
        """Add as many records as fit; return how many were added.

        Args:
            records: key, value and headers of each.
            start: the index of the first record to add.
            timestamp_ms: the timestamp of all of them.
        """
        for number in range(start, len(records)):
            key, value, headers = records[number]
            added = self.append(timestamp=timestamp_ms, key=key, value=value, headers=list(headers))
            if added is None:
                return number - start
        return len(records) - start


class ZstdBatch(Batch):
    """A batch that reuses an existing zstd compressor.

    aiokafka creates a new one for each batch, which takes longer than to compress a few records.
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


class NativeBatch:
    """The same as `ZstdBatch`, by `firstseen-native`, which must be installed.

    It has the methods of a `BatchBuilder` that aiokafka uses on a batch it is given, and takes no
    single records.
    """

    def __init__(self, batch_size: int) -> None:
        import firstseen_native  # noqa: PLC0415 - it need not be installed

        self._records = firstseen_native.OutgoingBatch(batch_size)
        self._state = _NO_PRODUCER
        self._built: bytes | None = None
        self._is_closed = False

    def extend(self, records: Sequence[_Record], start: int, timestamp_ms: int) -> int:
        """Add as many records as fit; see `Batch.extend`."""
        if not isinstance(records, list):
            records = list(records)
        return self._records.extend(records, start, timestamp_ms)

    def append(self, **_record: object) -> None:
        """Take no record: the batch is closed when it is handed over."""
        return

    def close(self) -> None:
        self._is_closed = True

    def closed(self) -> bool:
        return self._is_closed

    def record_count(self) -> int:
        return len(self._records)

    def size(self) -> int:
        return self._records.size if self._built is None else len(self._built)

    def _set_producer_state(self, producer_id: int, epoch: int, base_sequence: int) -> None:
        self._state = producer_id, epoch, base_sequence

    def _build(self) -> bytes:
        self.close()
        if self._built is None:
            self._built = self._records.build(*self._state, _LEVEL)
        return self._built


class BatchProducer(AIOKafkaProducer):
    """A producer whose `create_batch` returns batches of ours."""

    def __init__(self, *, native: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        is_zstd = settings.get("compression_type") == "zstd"
        self._is_native = is_zstd and native
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL) if is_zstd else None
        self._batch_bytes = settings["max_batch_size"]

    def create_batch(self) -> Batch | NativeBatch:
        if self._is_native:
            return NativeBatch(self._batch_bytes)
        if self._compressor is not None:
            return ZstdBatch(self._compressor, self._batch_bytes)
        batch = super().create_batch()
        batch.__class__ = Batch
        return batch


class Producer(driver.Producer):
    """Faust's producer, idempotent unless the broker cannot do it (the embedded one)."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {
            "acks": "all",
            "enable_idempotence": self.transport.options.enable_idempotence,
            "native": self.transport.reading.native,
        }

    @property
    def _producer_type(self) -> type[AIOKafkaProducer]:
        return BatchProducer
