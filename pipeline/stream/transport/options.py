"""Options for which Faust has no setting, and how deep records are filtered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Depth(IntEnum):
    """Where a record that matches nothing is dropped; each depth includes the lower ones.

    Attributes:
        AGENT: nowhere; every record becomes a Faust event and an agent judges it.
        EVENT: after decoding and matching, before Faust sees it.
        RECORD: before decoding, by a search of its raw value.
        BATCH: before its batch is parsed, by a search of the decompressed batch.
    """

    AGENT = 0
    EVENT = 1
    RECORD = 2
    BATCH = 3


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """Options of the transport, in seconds and bytes."""

    isolation_level: str = "read_committed"
    enable_idempotence: bool = True
    fetch_max_wait_seconds: float = 0.25
    fetch_max_bytes: int = 16 << 20
    settle_seconds: float = 30.0
    revoke_seconds: float = 20.0
