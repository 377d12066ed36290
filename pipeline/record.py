"""A Kafka record and its position, whichever client read it."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

Headers: TypeAlias = tuple[tuple[str, bytes], ...]

NO_TIMESTAMP: Final = -1
"""How Kafka marks a record without a timestamp."""


# Structs, not dataclasses: there is one for each record, and creating it takes a tenth of the time.
class Position(msgspec.Struct, frozen=True, gc=False):
    """The position of a record: topic, partition, offset."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


class Record(msgspec.Struct, frozen=True, gc=False):
    """A Kafka record as bytes.

    Attributes:
        position: its position.
        key: its key, or None.
        value: its value; None is a tombstone.
        headers: its headers, in order.
        timestamp_ms: the record's own timestamp (epoch milliseconds), CreateTime or LogAppendTime;
            negative if it has none.
        arrival_ms: the latest time at which it can have arrived (epoch milliseconds); see
            `arrival_of`.
        read_ms: the time at which it was read (epoch milliseconds); negative if that says nothing
            about when its events happened, as with a file.
    """

    position: Position
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    arrival_ms: int
    read_ms: int = NO_TIMESTAMP


def arrival_of(timestamp_ms: int, read_ms: int, *, append_time: bool) -> int:
    """Return the latest time at which a record can have arrived (epoch milliseconds).

    That is the append time if the broker stamps one. With CreateTime, the record's timestamp is
    only the shipper's claim (Elastic Agent sends the event's own time), so the moment of reading is
    used instead: no record can have arrived later than that.

    Args:
        timestamp_ms: the record's own timestamp (epoch milliseconds).
        read_ms: the time at which it was read (epoch milliseconds).
        append_time: whether the broker stamped it (LogAppendTime).
    """
    return timestamp_ms if append_time else read_ms
