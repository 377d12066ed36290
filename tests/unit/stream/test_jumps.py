"""What counts as a jump: the log does not have the offset that was to be read next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from types import SimpleNamespace
from typing import Any

from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition
from faust.types import TP

from pipeline.stream.transport.consumer import Consumer
from pipeline.stream.transport.fetcher import FilteringFetcher

PARTITION = TopicPartition("logs", 0)
NODE = 1


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


class Fetcher(FilteringFetcher):
    """A fetcher of a log that begins at some offset; each step has to be called."""

    def __init__(self, begins: int) -> None:
        self.begins = begins
        self.jumps: list[tuple[int, int]] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self._subscriptions = SubscriptionState()
        self._subscriptions.subscribe({PARTITION.topic})
        self._client = SimpleNamespace(send=self._refuse, take_views=lambda _request: {})
        self._client_rack = None
        self._default_reset_strategy = OffsetResetStrategy.EARLIEST
        self._preferred_read_replica = {}
        self._records = {}
        self._retry_backoff = 0
        self._wait_consume_future = None
        self._out_of_range = {}
        self._on_jump = lambda _tp, expected, position: self.jumps.append((expected, position))
        self.rebalance()

    @property
    def _assignment(self) -> Assignment:
        assigned: Assignment = self._subscriptions.subscription.assignment
        return assigned

    def rebalance(self) -> None:
        self._subscriptions.assign_from_subscribed([PARTITION])

    async def fetch(self) -> None:
        position = self._assignment.state_value(PARTITION).position
        request = SimpleNamespace(topics=[(PARTITION.topic, [(PARTITION.partition, position, 1)])])
        await self._proc_fetch_request(self._assignment, NODE, request)

    async def find_position(self) -> None:
        await self._update_fetch_positions(self._assignment, NODE, [PARTITION])

    async def _refuse(self, _node: int, _request: object) -> object:
        refused = (PARTITION.partition, OffsetOutOfRangeError.errno, -1, -1, [], b"")
        return SimpleNamespace(API_VERSION=4, topics=[(PARTITION.topic, [refused])])

    async def _proc_offset_request(
        self, _node: int, _topics: object
    ) -> dict[TopicPartition, tuple[int, int]]:
        self.meanwhile()
        return {PARTITION: (self.begins, -1)}


@on_a_loop
async def test_a_log_that_begins_after_the_position_jumps() -> None:
    fetcher = Fetcher(begins=50)
    fetcher.seek_to(PARTITION, 10)

    await fetcher.fetch()
    await fetcher.find_position()

    assert fetcher.jumps == [(10, 50)]


@on_a_loop
async def test_a_committed_offset_that_a_rebalance_brings_is_no_jump() -> None:
    fetcher = Fetcher(begins=50)
    fetcher.seek_to(PARTITION, 10)
    await fetcher.fetch()
    fetcher.rebalance()  # another worker has gone on in the meantime
    fetcher._assignment.state_value(PARTITION).reset_to(70)

    await fetcher.find_position()

    assert fetcher.jumps == []


@on_a_loop
async def test_a_seek_while_the_beginning_is_asked_for_is_no_jump() -> None:
    fetcher = Fetcher(begins=50)
    fetcher.seek_to(PARTITION, 10)
    await fetcher.fetch()
    fetcher.meanwhile = lambda: fetcher.seek_to(PARTITION, 8)

    await fetcher.find_position()

    assert fetcher.jumps == []


@on_a_loop
async def test_a_jump_is_known_although_the_first_question_fails() -> None:
    fetcher = Fetcher(begins=50)
    fetcher.seek_to(PARTITION, 10)
    await fetcher.fetch()

    def fail() -> None:
        raise KafkaError

    fetcher.meanwhile = fail
    await fetcher.find_position()
    fetcher.meanwhile = lambda: None
    await fetcher.find_position()

    assert fetcher.jumps == [(10, 50)]


class Jumps(Consumer):
    """A consumer with what it needs to note jumps and to commit, all of which succeeds."""

    def __init__(self) -> None:
        self.noted: list[tuple[int, int]] = []
        self._set_back = set()
        self._cut_short = {}
        self._deleted = {}
        self._committed_offset = {}
        self.app = SimpleNamespace(
            on_jump=lambda _tp, expected, position: self.noted.append((expected, position)),
            on_committed=lambda _offsets: None,
            on_commit_ended=lambda _result, _seconds: None,
            outbox=SimpleNamespace(settle=self._succeed),
            topics=SimpleNamespace(acks_enabled_for=lambda _topic: True),
        )
        self.transport = SimpleNamespace(options=SimpleNamespace(settle_seconds=1.0))

    def assignment(self) -> set[TP]:
        return {TP(*PARTITION)}

    async def _succeed(self, _seconds: float) -> bool:
        return True

    async def _commit(self, _offsets: Any) -> bool:
        return True


@on_a_loop
async def test_a_jump_is_told_once_until_something_is_committed() -> None:
    consumer = Jumps()

    consumer.on_jump(PARTITION, 30, 0)
    consumer.on_jump(PARTITION, 30, 0)
    await consumer._commit_offsets({TP(*PARTITION): 30})
    consumer.on_jump(PARTITION, 30, 0)

    assert consumer.noted == [(30, 0), (30, 0)]


@on_a_loop
async def test_what_was_deleted_is_counted_once_whatever_is_committed_in_between() -> None:
    """A worker that was frozen commits where it was when it has joined again, and seeks there."""
    consumer = Jumps()

    consumer.on_jump(PARTITION, 50, 120)
    await consumer._commit_offsets({TP(*PARTITION): 50})
    consumer.on_jump(PARTITION, 50, 120)

    assert consumer.noted == [(50, 120)]


@on_a_loop
async def test_what_is_deleted_before_and_behind_it_is_counted_as_well() -> None:
    consumer = Jumps()

    consumer.on_jump(PARTITION, 50, 120)
    consumer.on_jump(PARTITION, 40, 150)  # what was in flight is read again

    assert consumer.noted == [(50, 120), (40, 50), (120, 150)]


@on_a_loop
async def test_what_was_read_before_the_next_deletion_is_not_taken_for_counted() -> None:
    consumer = Jumps()

    consumer.on_jump(PARTITION, 50, 120)
    consumer.on_jump(PARTITION, 300, 400)
    consumer.on_jump(PARTITION, 200, 400)

    assert consumer.noted == [(50, 120), (300, 400), (200, 300)]
