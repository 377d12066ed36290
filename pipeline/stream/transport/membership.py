"""What a worker knows about its membership in the group, which may end without notice."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from types import MappingProxyType
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, errors
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from pipeline.errors import BrokerError, TopologyError
from pipeline.telemetry.logging import get_logger

log = get_logger(__name__)

_LONG_AGO: Final = float("-inf")

_FENCED_INSTANCE_ID: Final = 82
"""Kafka's code for a member whose instance id another one has; aiokafka does not know it."""

MISSING_SECONDS = 60.0
"""After this time in which no commit of a partition found it, it is gone for good.

A broker that has just started does not know all partitions for a moment.
"""


def refusal(consumer: AIOKafkaConsumer | None) -> BrokerError | None:
    """Return why the group refuses a consumer for good; None if it may be a member.

    Safe to call from any thread.
    """
    coordinator = None if consumer is None else consumer._coordinator  # noqa: SLF001
    if not isinstance(coordinator, MemberCoordinator) or coordinator.refused is None:
        return None
    group_id = coordinator.group_id
    if coordinator.is_fenced:
        reason = (
            f"another worker has taken its place. Both have the kafka.group_instance_id "
            f"{coordinator._group_instance_id}: give each worker one of its own"  # noqa: SLF001
        )
    else:
        reason = (
            f"{coordinator.refused}. Check its ACLs, and whether something else uses this "
            f"kafka.group_id"
        )
    error = BrokerError(f"the consumer group {group_id} does not take this worker: {reason}")
    error.__cause__ = coordinator.refused
    return error


def lost_partition(consumer: AIOKafkaConsumer | None) -> TopologyError | None:
    """Return an error if a partition that a consumer is to commit does not exist any more.

    aiokafka repeats such a commit for ever, and with it those of all other partitions. Safe to call
    from any thread.
    """
    coordinator = None if consumer is None else consumer._coordinator  # noqa: SLF001
    if not isinstance(coordinator, MemberCoordinator):
        return None
    for (topic, number), (first, last) in coordinator.missing.items():
        if last - first > MISSING_SECONDS:
            return TopologyError(
                f"topic {topic} has had no partition {number} for {last - first:.0f} s, so this "
                f"worker can commit nothing: somebody deleted the topic, or created it anew with "
                f"fewer partitions, while workers ran. `firstseen topics plan` says whether it is "
                f"missing: create it as docs/reference/topics.md says, or correct the settings; "
                f"then start the worker again"
            )
    return None


class MemberCoordinator(GroupCoordinator):
    """A coordinator client that remembers when the group was last known to count on it.

    The broker ends a membership in two cases:

    * It has not heard of the member for a session timeout. A process that was frozen for that long
      goes on where it stopped, and learns of it only with its next heartbeat.
    * The member has not joined again within a rebalance timeout after a rebalance began. A worker
      learns of the rebalance with a heartbeat as well, so it learns later, and much later if
      heartbeats failed before.

    Both times are counted here from the moment before a request is sent, so they run out here
    before they run out at the broker. The request is either a heartbeat, or the SyncGroup with
    which a generation begins. The latter counts because the folders of new partitions are opened
    after its answer, and no heartbeat is sent until that is done.
    """

    refused: BaseException | None = None
    """Why the group refuses this member. It does not ask again."""

    is_fenced: bool = False
    """Whether the group has said that another member has this one's instance id."""

    missing: Mapping[tuple[str, int], tuple[float, float]] = MappingProxyType({})
    """Partitions that the brokers did not know at the last commit: since when, and when."""

    _heard_at: float = _LONG_AGO
    _settled_at: float = _LONG_AGO

    @classmethod
    def adopt(cls, coordinator: GroupCoordinator) -> None:
        """Turn the coordinator client of a consumer that has not joined yet into one of ours."""
        coordinator.__class__ = cls

    def is_confirmed(self) -> bool:
        """Whether the group cannot have ended the membership of this generation."""
        now = monotonic()
        return (
            now - self._heard_at < self._session_timeout_ms / 1000
            and now - self._settled_at < self._rebalance_timeout_ms / 1000
        )

    def _push_error_to_user(self, exc: BaseException) -> Any:
        """Note why the group cannot be joined.

        aiokafka would now wait for ever: only a method that Faust never calls raises the error.
        """
        self.refused = exc
        return super()._push_error_to_user(exc)

    async def _send_req(self, request: Any) -> Any:
        asked_at = monotonic()
        answer = await super()._send_req(request)
        if isinstance(request, HeartbeatRequest | SyncGroupRequest):
            error = errors.for_code(answer.error_code)
            if error is errors.NoError:
                self._heard_at = self._settled_at = asked_at
            elif error is errors.RebalanceInProgressError:
                self._heard_at = asked_at  # still a member, but the group waits for it to join
        codes = _error_codes(request, answer)
        self.is_fenced = self.is_fenced or _FENCED_INSTANCE_ID in codes
        if codes & {_FENCED_INSTANCE_ID, errors.UnknownMemberIdError.errno}:
            self._warn_of_duplicate(asked_at)
        if isinstance(request, OffsetCommitRequest):
            self.missing = {
                (topic, number): (self.missing.get((topic, number), (asked_at, 0.0))[0], asked_at)
                for topic, partitions in answer.topics
                for number, code in partitions
                if code == errors.UnknownTopicOrPartitionError.errno
            }
        return answer

    def _warn_of_duplicate(self, asked_at: float) -> None:
        """Log why a static member may have been thrown out before its session was over.

        The group gives its place to whoever joins with the same id. That one is thrown out in turn
        when this one joins again, and so on. Which request tells it first is a matter of chance:
        where there is work, it is a commit, and no heartbeat follows.
        """
        instance = self._group_instance_id
        in_session = asked_at - self._heard_at < self._session_timeout_ms / 1000
        if instance is not None and (in_session or self.is_fenced):
            log.warning(
                "another worker has taken the place of this one in the group: give each a "
                "kafka.group_instance_id of its own",
                action="membership_taken",
                group=self.group_id,
                group_instance_id=instance,
            )


def _error_codes(request: Any, answer: Any) -> set[int]:
    """Return Kafka's error codes in the answer to a request that only a member may send."""
    if isinstance(request, OffsetCommitRequest):
        return {code for _, partitions in answer.topics for _, code in partitions}
    if isinstance(request, HeartbeatRequest | JoinGroupRequest | SyncGroupRequest):
        return {answer.error_code}
    return set()
