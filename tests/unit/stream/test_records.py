"""From the clients' messages to our records: what each says of time."""

from __future__ import annotations

import time
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from faust.types import Message

from pipeline.record import NO_TIMESTAMP, Record
from pipeline.stream.records import record_of_fetched, record_of_message

CREATE_TIME, APPEND_TIME = 0, 1
STAMP = 1_714_564_800_123


def of_aiokafka(timestamp_ms: int | None, kind: int | None) -> Record:
    return record_of_fetched(
        ConsumerRecord("t", 0, 7, timestamp_ms, kind, b"k", b"v", 1, 1, 1, (("a", b"b"),))
    )


def of_faust(timestamp_ms: int | None, kind: int | None) -> Record:
    seconds = None if timestamp_ms is None else timestamp_ms / 1000
    return record_of_message(Message("t", 0, 7, seconds, kind, [("a", b"b")], b"k", b"v", None))


@pytest.fixture(params=[of_aiokafka, of_faust], ids=["aiokafka", "faust"])
def read(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_what_the_broker_stamped_is_when_the_record_arrived(read: Any) -> None:
    """#createtime-and-logappendtime: the guard measures from the broker's stamp."""
    record = read(STAMP, APPEND_TIME)

    assert (STAMP, STAMP) == (record.timestamp_ms, record.arrival_ms)


def test_what_the_producer_claims_is_no_arrival(read: Any) -> None:
    """#createtime-and-logappendtime: the moment of reading stands in for it."""
    before = time.time_ns() // 1_000_000
    record = read(STAMP, CREATE_TIME)

    assert STAMP == record.timestamp_ms
    assert before <= record.arrival_ms == record.read_ms


@pytest.mark.parametrize(("timestamp_ms", "kind"), [(None, None), (-1, CREATE_TIME)])
def test_a_record_without_a_timestamp_has_none(
    read: Any, timestamp_ms: int | None, kind: int | None
) -> None:
    """#createtime-and-logappendtime: neither 1970 nor now."""
    assert NO_TIMESTAMP == read(timestamp_ms, kind).timestamp_ms


def test_a_record_has_its_place_and_its_bytes(read: Any) -> None:
    record = read(STAMP, CREATE_TIME)

    assert ("t[0]@7", b"k", b"v", (("a", b"b"),)) == (
        str(record.position),
        record.key,
        record.value,
        record.headers,
    )
