"""From a message of the log to a sighting: what the record says of time."""

from __future__ import annotations

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, Message

from pipeline.clock import now_ms
from pipeline.config import Settings
from pipeline.history.log_judge import LogJudge
from pipeline.kql import FieldTable
from pipeline.rules import RuleSet, load_rules
from tests.events import encode, library_event

HOUR = 3_600_000
GUARD = 5 * 60_000


def time_of_an_event_of_2099(kind: int, stamp: int) -> int:
    (compiled,) = RuleSet.compile(load_rules().rules, FieldTable.builtin())[0].runnable
    value = encode(library_event() | {"@timestamp": "2099-01-01T00:00:00Z"})
    message = Message(topic="t", partition=0, offset=7, value=value, timestamp=(kind, stamp))
    (sighting,) = LogJudge(Settings(), compiled).sightings([message])
    return sighting.observation().time_ms


def test_the_guard_measures_from_what_the_broker_stamped() -> None:
    """#createtime-and-logappendtime"""
    stamp = now_ms() - HOUR

    assert time_of_an_event_of_2099(TIMESTAMP_LOG_APPEND_TIME, stamp) == stamp + GUARD


def test_the_guard_measures_from_the_reading_if_only_the_producer_stamped() -> None:
    """#createtime-and-logappendtime"""
    before = now_ms()
    time_ms = time_of_an_event_of_2099(TIMESTAMP_CREATE_TIME, before - HOUR)

    assert before <= time_ms - GUARD <= now_ms()
