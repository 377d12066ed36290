"""A Kafka record and where it stands, whichever client read it."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

Headers: TypeAlias = tuple[tuple[str, bytes], ...]

NO_TIMESTAMP: Final = -1
"""Kafka's own sign for a record that has no timestamp."""


# Structs, not dataclasses: one is made for each record, in a tenth of the time.
class Position(msgspec.Struct, frozen=True, gc=False):
    """Where a record stands: topic, partition, offset."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


class Record(msgspec.Struct, frozen=True, gc=False):
    """A Kafka record as bytes.

    Attributes:
        position: where it stands.
        key: its key, or None.
        value: its value; None is a tombstone.
        headers: its headers, in order.
        timestamp_ms: the record's own timestamp (epoch milliseconds): CreateTime or LogAppendTime;
            negative when it has none.
        arrival_ms: when it can have arrived at the latest (epoch milliseconds): the append time
            where the broker stamps it, else the moment it was read.
        read_ms: the moment it was read (epoch milliseconds); negative where that says nothing of
            when its events happened, as with a file.
    """

    position: Position
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    arrival_ms: int
    read_ms: int = NO_TIMESTAMP
