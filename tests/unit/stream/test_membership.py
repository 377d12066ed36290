"""Until when a worker can be sure that the group counts on it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from aiokafka import errors
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import HeartbeatRequest, SyncGroupRequest

from pipeline.stream.transport import membership
from pipeline.stream.transport.membership import MemberCoordinator, lost_partition, refusal

SESSION, REBALANCE = 10, 30
HEARTBEAT = HeartbeatRequest("group", 1, "member")
SYNC = SyncGroupRequest("group", 1, "member", None, [])
COMMIT = OffsetCommitRequest("group", 1, "member", -1, [])
FENCED = 82


class Scene:
    """A coordinator client, its clock, and a broker that takes a second to answer."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.answer: type[errors.KafkaError] = errors.NoError
        self.errors: dict[str, type[errors.KafkaError]] = {}
        self.member = object.__new__(MemberCoordinator)
        self.member._session_timeout_ms = SESSION * 1000
        self.member._rebalance_timeout_ms = REBALANCE * 1000
        self.member.coordinator_id = 0
        self.member.group_id = "soc"
        self.member._group_instance_id = None
        self.member._client = SimpleNamespace(send=self._send)

    async def _send(self, *_: Any, **__: Any) -> Any:
        self.now += 1
        code = self.answer.errno
        topics = [(name, [(7, error.errno)]) for name, error in self.errors.items()]
        return SimpleNamespace(error_code=code, topics=topics or [("events", [(0, code)])])

    def ask(
        self, request: object = HEARTBEAT, answer: type[errors.KafkaError] = errors.NoError
    ) -> None:
        self.answer = answer
        asyncio.run(self.member._send_req(request))

    def is_confirmed(self, *, after: float) -> bool:
        self.now += after
        return self.member.is_confirmed()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene()
    monkeypatch.setattr(membership, "monotonic", lambda: scene.now)
    return scene


def test_nothing_is_sure_before_a_worker_has_joined(scene: Scene):
    assert not scene.is_confirmed(after=0)


@pytest.mark.parametrize("request_", [HEARTBEAT, SYNC], ids=["heartbeat", "sync"])
def test_a_session_counts_from_before_the_request(scene: Scene, request_: object):
    scene.ask(request_)

    assert scene.is_confirmed(after=SESSION - 1.5)
    assert not scene.is_confirmed(after=0.5)


def test_a_rebalance_counts_from_the_last_request_before_it(scene: Scene):
    scene.ask()
    for _ in range(4):
        assert scene.is_confirmed(after=6)
        scene.ask(answer=errors.RebalanceInProgressError)

    assert scene.is_confirmed(after=0.5)
    assert not scene.is_confirmed(after=1.5)


@pytest.mark.parametrize("answer", [errors.UnknownMemberIdError, errors.IllegalGenerationError])
def test_an_answer_to_a_stranger_confirms_nothing(scene: Scene, answer: type[errors.KafkaError]):
    scene.ask()
    scene.now += SESSION - 1
    scene.ask(answer=answer)

    assert not scene.is_confirmed(after=0)


@pytest.mark.parametrize(
    ("instance", "after", "told"),
    [("worker-0", SESSION - 2, True), ("worker-0", SESSION, False), (None, 1, False)],
    ids=["static", "its session was over", "not static"],
)
def test_a_worker_under_the_id_of_another_is_told(
    scene: Scene, instance: str | None, after: float, told: bool
) -> None:
    scene.member._group_instance_id = instance
    scene.ask()
    scene.now += after

    with structlog.testing.capture_logs() as lines:
        scene.ask(answer=errors.UnknownMemberIdError)

    wanted = [("membership_taken", instance)] if told else []
    assert wanted == [(line["action"], line["group_instance_id"]) for line in lines]


def test_a_commit_tells_of_another_worker_under_the_same_id(scene: Scene) -> None:
    scene.member._group_instance_id = "worker-0"
    scene.ask()

    with structlog.testing.capture_logs() as lines:
        scene.ask(COMMIT, answer=errors.UnknownMemberIdError)

    assert [line["action"] for line in lines] == ["membership_taken"]


def test_a_worker_that_is_fenced_while_it_joins_says_who_has_its_place(scene: Scene) -> None:
    class FencedInstanceIdError(errors.KafkaError):
        errno = FENCED

    scene.member._group_instance_id = "worker-0"
    with structlog.testing.capture_logs() as lines:
        scene.ask(SYNC, answer=FencedInstanceIdError)
    scene.member.refused = errors.KafkaError("UnknownError()")
    consumer: Any = SimpleNamespace(_coordinator=scene.member)

    assert [line["action"] for line in lines] == ["membership_taken"]
    assert "Both have the kafka.group_instance_id worker-0" in str(refusal(consumer))


def test_why_a_group_cannot_be_joined_is_told() -> None:
    async def refused() -> tuple[object, object]:
        member = object.__new__(MemberCoordinator)
        member.group_id = "soc"
        member._subscription = SimpleNamespace(abort_waiters=lambda _: None)
        member._closing = asyncio.get_running_loop().create_future()
        member._closing.set_result(None)
        consumer: Any = SimpleNamespace(_coordinator=member)
        before = refusal(consumer)
        await member._push_error_to_user(errors.GroupAuthorizationFailedError("soc"))
        return before, refusal(consumer)

    before, after = asyncio.run(refused())

    assert before is None
    assert refusal(None) is None
    assert "the consumer group soc does not take this worker" in str(after)
    assert "GroupAuthorizationFailedError" in str(after)


def test_a_partition_is_lost_when_no_commit_has_found_it_for_a_minute(scene: Scene) -> None:
    consumer: Any = SimpleNamespace(_coordinator=scene.member)

    def commit(**missing: bool) -> str:
        scene.errors = {
            name: errors.UnknownTopicOrPartitionError if is_missing else errors.NoError
            for name, is_missing in missing.items()
        }
        asyncio.run(scene.member._send_req(OffsetCommitRequest("soc", 1, "member", -1, [])))
        return str(lost_partition(consumer) or "")

    assert lost_partition(None) is None
    assert commit(a=True, b=False) == ""
    scene.now += 40
    assert commit(a=True, b=True) == ""
    scene.now += 40
    said = commit(a=True, b=True)
    assert "topic a has had no partition 7 for 82 s" in said
    assert commit(a=False, b=True) == ""  # it was only unknown to a broker that had just started
    scene.now += 1_000
    assert lost_partition(consumer) is None  # as long as nobody asks for it


def test_requests_that_keep_no_session_confirm_nothing(scene: Scene):
    scene.ask(object())

    assert not scene.is_confirmed(after=0)
