"""Conversion of Faust's messages and aiokafka's records to our records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.clock import now_ms
from pipeline.record import NO_TIMESTAMP, Headers, Position, Record, arrival_of

LOG_APPEND_TIME = 1
"""Kafka's timestamp type for topics where the broker stamps the arrival."""


def _headers(headers: Iterable[tuple[str, bytes | None]] | None) -> Headers:
    return tuple((name, value or b"") for name, value in headers) if headers else ()


def record_of_message(message: Any) -> Record:
    """Return the record of a Faust message."""
    seconds = message.timestamp
    timestamp_ms = NO_TIMESTAMP if seconds is None else round(seconds * 1000)
    return _record(message, message, timestamp_ms)


def timestamp_of(record: Any) -> int:
    """Return the timestamp of a fetched record (epoch milliseconds)."""
    timestamp_ms: int | None = record.timestamp
    return NO_TIMESTAMP if timestamp_ms is None else timestamp_ms


def record_of_fetched(record: Any) -> Record:
    """Return the record of a fetched record that says which partition it is from."""
    return _record(record, record, timestamp_of(record))


def record_of_batch(tp: Any, record: Any) -> Record:
    """Return the record for an entry of a partition's batch."""
    return _record(tp, record, timestamp_of(record))


def _record(tp: Any, record: Any, timestamp_ms: int) -> Record:
    read_ms = now_ms()
    append_time = record.timestamp_type == LOG_APPEND_TIME
    return Record(
        position=Position(tp.topic, tp.partition, record.offset),
        key=record.key,
        value=record.value,
        headers=_headers(record.headers),
        timestamp_ms=timestamp_ms,
        arrival_ms=arrival_of(timestamp_ms, read_ms, append_time=append_time),
        read_ms=read_ms,
    )
