"""Conversion of Faust's messages and aiokafka's records to our records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.clock import now_ms
from pipeline.record import NO_TIMESTAMP, Headers, Position, Record

LOG_APPEND_TIME = 1
"""Kafka's timestamp type for topics where the broker stamps the arrival."""


def _headers(headers: Iterable[tuple[str, bytes | None]] | None) -> Headers:
    return tuple((name, value or b"") for name, value in headers) if headers else ()


def record_of(message: Any) -> Record:
    """Return the record of a Faust message.

    Its arrival is the append time if the broker stamps one. With CreateTime, the record's timestamp
    is only the shipper's claim (Elastic Agent sends the event's own time), so the moment of reading
    is used instead: no record can have arrived later than that.
    """
    timestamp_ms = NO_TIMESTAMP if message.timestamp is None else round(message.timestamp * 1000)
    stamped = message.timestamp_type == LOG_APPEND_TIME
    read_ms = now_ms()
    return Record(
        position=Position(message.topic, message.partition, message.offset),
        key=message.key,
        value=message.value,
        headers=_headers(message.headers),
        timestamp_ms=timestamp_ms,
        arrival_ms=timestamp_ms if stamped else read_ms,
        read_ms=read_ms,
    )


def timestamp_of(record: Any) -> int:
    """Return the timestamp of a fetched record (epoch milliseconds)."""
    timestamp_ms: int | None = record.timestamp
    return NO_TIMESTAMP if timestamp_ms is None else timestamp_ms


def record_of_consumer(record: Any) -> Record:
    """Return the record of an aiokafka ``ConsumerRecord``; see `record_of`."""
    return record_of_batch(record, record)


def record_of_batch(tp: Any, record: Any) -> Record:
    """Return the record for an entry of a partition's batch; see `record_of`."""
    timestamp_ms = timestamp_of(record)
    read_ms = now_ms()
    return Record(
        position=Position(tp.topic, tp.partition, record.offset),
        key=record.key,
        value=record.value,
        headers=_headers(record.headers),
        timestamp_ms=timestamp_ms,
        arrival_ms=timestamp_ms if record.timestamp_type == LOG_APPEND_TIME else read_ms,
        read_ms=read_ms,
    )
