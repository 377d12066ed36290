"""Reading to the end of a topic: where that is, what counts as silence, and Ctrl-C meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from pipeline.config import Settings
from pipeline.errors import BrokerError
from pipeline.history.log_reader import LogReader
from pipeline.kafka import reading
from pipeline.kafka.reading import check_leader, until_end


def _export(client: Consumer) -> Any:
    client.assign([TopicPartition("t", 0, 0)])
    return until_end(client, "t", [0])


def _backfill(client: Consumer) -> Any:
    return LogReader(Settings(), client).read({("t", 0): (0, 1)})


@pytest.mark.parametrize("read", [_export, _backfill])
def test_an_interrupt_that_the_client_loses_is_none_the_less_one(
    read: Callable[[Consumer], Any],
) -> None:
    def interrupted(_error: object) -> None:
        raise KeyboardInterrupt

    client = Consumer(
        {
            "bootstrap.servers": "127.0.0.1:1",
            "group.id": "test",
            "error_cb": interrupted,
            "log_level": 0,
        }
    )
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        for _ in read(client):
            pass
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("code", [KafkaError.LEADER_NOT_AVAILABLE, KafkaError._UNKNOWN_PARTITION])
def test_a_partition_without_a_leader_is_named(code: int) -> None:
    with pytest.raises(BrokerError, match=r"reading t: t\[3\]: .*; check .* --topic t$"):
        check_leader("reading t", TopicPartition("t", 3), KafkaError(code))


def test_other_errors_are_not_for_want_of_a_leader() -> None:
    check_leader("reading t", TopicPartition("t", 3), KafkaError(KafkaError._TIMED_OUT))


class Answer:
    """What a poll returns: a record, or the end of a partition."""

    def __init__(self, partition: int, offset: int, code: int | None = None) -> None:
        self._place = partition, offset
        self._error = None if code is None else KafkaError(code)

    def error(self) -> KafkaError | None:
        return self._error

    def partition(self) -> int:
        return self._place[0]

    def offset(self) -> int:
        return self._place[1]


class Client:
    """A consumer with these answers; the high watermark of a partition is at `ends`."""

    def __init__(self, answers: Iterable[Answer | None], ends: dict[int, int]) -> None:
        self._answers = iter(answers)
        self._ends = ends
        self.unassigned: list[int] = []

    def poll(self, _seconds: float) -> Answer | None:
        return next(self._answers)

    def get_watermark_offsets(self, place: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached
        return 0, self._ends[place.partition]

    def incremental_unassign(self, places: list[TopicPartition]) -> None:
        self.unassigned += [place.partition for place in places]


def _read(answers: Iterable[Answer | None], ends: dict[int, int]) -> list[tuple[int, int]]:
    client: Any = Client(answers, ends)
    found = [(each.partition(), each.offset()) for each in until_end(client, "t", list(ends))]
    assert sorted(client.unassigned) == sorted(ends)
    return found


def test_reading_ends_where_the_partition_ended_when_it_began_though_records_keep_coming() -> None:
    ever = (Answer(0, offset) for offset in count(5))
    assert _read(ever, {0: 8}) == [(0, 5), (0, 6), (0, 7)]


def test_a_record_past_an_end_that_holds_none_is_not_of_the_present() -> None:
    assert _read([Answer(0, 5), Answer(0, 9)], {0: 8}) == [(0, 5)]


def test_reading_ends_where_nothing_more_can_be_read_before_the_watermark() -> None:
    """As behind an open transaction, or where compaction took the last records."""
    end = Answer(0, 6, KafkaError._PARTITION_EOF)
    assert _read([Answer(0, 5), end], {0: 8}) == [(0, 5)]


def test_silence_is_an_error_only_without_a_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SILENCE_SECONDS", 3.0)

    answers = iter([None, None, Answer(0, 0), None, None, Answer(0, 1), None, None, None])
    client: Any = Client(answers, {0: 9})
    found = until_end(client, "t", [0])
    assert [next(found).offset(), next(found).offset()] == [0, 1]
    with pytest.raises(BrokerError, match=r"reading t: no answer for 3 s about t\[0\]; check"):
        next(found)
    assert list(answers) == []


def test_a_partition_is_silent_however_much_comes_of_one_that_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "SILENCE_SECONDS", 3.0)

    ended = [Answer(1, 0), Answer(1, 1, KafkaError._PARTITION_EOF)]
    noise = [None, Answer(1, 1), Answer(1, 2, KafkaError._PARTITION_EOF)]
    client: Any = Client(ended + noise * 3, {0: 1, 1: 9, 2: 1})
    with pytest.raises(BrokerError, match=r"about t\[0\] and 1 more partition; check"):
        list(until_end(client, "t", [0, 1, 2]))
    assert client.unassigned == [1]
