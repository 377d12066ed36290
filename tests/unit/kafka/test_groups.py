"""The coordinator of a group is asked again while that may help, and not for ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from pipeline.config import Settings
from pipeline.errors import BrokerError, BrokerUnreachableError
from pipeline.kafka import groups
from pipeline.kafka.groups import CLUSTER_SILENCE_SECONDS, PATIENCE_SECONDS, GroupOffsets

PLACES = [("events", 0), ("events", 1)]
LATER = [
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
]
SILENT = [KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._WAIT_COORD]


class Clock:
    """Time that goes on only where somebody waits."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Told:
    """What a consumer is told by a poll: an error that concerns no partition."""

    def __init__(self, code: int) -> None:
        self._error = KafkaError(code)

    def error(self) -> KafkaError:
        return self._error


class Client:
    """A consumer whose coordinator answers with these errors, then well; a whole list is in parts."""

    def __init__(self, clock: Clock, answers: Sequence[Any], *, brokers: bool = True) -> None:
        self._clock = clock
        self._answers = list(answers)
        self._brokers = brokers
        self.asked = 0
        self.assigned: list[TopicPartition] = []
        self.told: Told | None = None

    def committed(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return self._answer(asked)

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        assert not asynchronous
        return self._answer(offsets)

    def assignment(self) -> list[TopicPartition]:
        return self.assigned

    def poll(self, timeout: float) -> Any:
        assert timeout == 0
        return self.told

    def list_topics(self, *, timeout: float) -> None:
        if not self._brokers:
            self._clock.sleep(timeout)
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def _answer(self, asked: list[TopicPartition]) -> list[TopicPartition]:
        self.asked += 1
        answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        if isinstance(answer, list):
            return answer
        if answer is not None:
            raise KafkaException(KafkaError(answer))
        return [TopicPartition(each.topic, each.partition, 7) for each in asked]


class Refused(TopicPartition):
    """One partition's answer that is an error."""

    error = KafkaError(KafkaError.NOT_COORDINATOR)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ours = Clock()
    monkeypatch.setattr(groups, "time", ours)
    return ours


def read(offsets: GroupOffsets) -> list[TopicPartition]:
    return offsets.read(PLACES)


def write(offsets: GroupOffsets) -> None:
    offsets.write([TopicPartition("events", 0, 7)])


@pytest.mark.parametrize("code", LATER + SILENT)
@pytest.mark.parametrize("do", [read, write])
def test_a_coordinator_that_is_not_ready_is_asked_again(
    clock: Clock, code: int, do: Callable[[GroupOffsets], Any]
):
    client = Client(clock, [code] * 20 + [None])

    with structlog.testing.capture_logs() as lines:
        do(GroupOffsets(Settings(), client, "group"))

    assert 21 == client.asked
    assert {("group_awaited", "warning")} == {(line["action"], line["log_level"]) for line in lines}


def test_a_coordinator_that_refuses_one_partition_for_now_is_asked_again(clock: Clock):
    client = Client(clock, [[TopicPartition("events", 0, 3), Refused("events", 1)], None])

    found = GroupOffsets(Settings(), client, "group").read(PLACES)

    assert [(0, 7), (1, 7)] == [(each.partition, each.offset) for each in found]


def test_a_partition_without_an_offset_is_left_out(clock: Clock):
    client = Client(clock, [[TopicPartition("events", 0, 0), TopicPartition("events", 1, -1001)]])

    assert [0] == [p.partition for p in GroupOffsets(Settings(), client, "group").read(PLACES)]


def test_one_that_never_gets_ready_ends_with_the_reason(clock: Clock):
    client = Client(clock, [KafkaError.COORDINATOR_NOT_AVAILABLE])

    with pytest.raises(BrokerError, match="__consumer_offsets") as caught:
        GroupOffsets(Settings(), client, "group").read(PLACES)

    assert not isinstance(caught.value, BrokerUnreachableError)
    assert PATIENCE_SECONDS <= clock.now - 1_000 < PATIENCE_SECONDS + 1


def test_brokers_that_say_nothing_at_all_are_unreachable_before_that(clock: Clock):
    client = Client(clock, [KafkaError._TIMED_OUT], brokers=False)

    with pytest.raises(BrokerUnreachableError, match="check kafka.bootstrap_servers"):
        GroupOffsets(Settings(), client, "group").read(PLACES)

    assert CLUSTER_SILENCE_SECONDS < clock.now - 1_000 < CLUSTER_SILENCE_SECONDS + 20


def test_a_refusal_is_not_asked_twice(clock: Clock):
    client = Client(clock, [KafkaError.GROUP_AUTHORIZATION_FAILED])

    with pytest.raises(BrokerError, match="committed: "):
        GroupOffsets(Settings(), client, "group").read(PLACES)

    assert 1 == client.asked


def test_a_refusal_that_only_a_poll_tells_is_not_taken_for_silence(clock: Clock):
    client = Client(clock, [KafkaError._TIMED_OUT])
    client.told = Told(KafkaError.GROUP_AUTHORIZATION_FAILED)

    with pytest.raises(BrokerError, match="what the group group has committed: ") as caught:
        GroupOffsets(Settings(), client, "group").read(PLACES)

    assert not isinstance(caught.value, BrokerUnreachableError)
    assert 1 == client.asked


def test_a_consumer_that_reads_is_not_polled_for_a_refusal(clock: Clock):
    client = Client(clock, [KafkaError._TIMED_OUT, None])
    client.assigned = [TopicPartition("events", 0)]
    client.told = Told(KafkaError.GROUP_AUTHORIZATION_FAILED)

    assert GroupOffsets(Settings(), client, "group").read(PLACES)
