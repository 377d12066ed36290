"""What a worker knows of its membership in the group: it may have ended without a word."""

from __future__ import annotations

from time import monotonic

from aiokafka.consumer.group_coordinator import GroupCoordinator


class MemberCoordinator(GroupCoordinator):
    """A coordinator client that remembers when the group was last known to count on it.

    The broker ends a membership that it has not heard of for a session timeout. A process that was
    frozen for so long goes on where it stood, and learns of it with its next heartbeat only. Until
    then its clock tells it that it cannot be sure.
    """

    _confirmed_at: float

    @classmethod
    def adopt(cls, coordinator: GroupCoordinator) -> None:
        """Turn the coordinator client of a consumer that has not joined yet into one of ours."""
        coordinator.__class__ = cls
        coordinator._confirmed_at = monotonic()  # noqa: SLF001

    def is_confirmed(self) -> bool:
        """Whether the group cannot have ended the membership of this generation for silence."""
        return monotonic() - self._confirmed_at < self._session_timeout_ms / 1000

    def _start_heartbeat_task(self) -> None:
        self._confirmed_at = monotonic()  # it has just joined
        super()._start_heartbeat_task()

    async def _do_heartbeat(self) -> bool:
        asked_at = monotonic()
        is_member: bool = await super()._do_heartbeat()
        if is_member:
            self._confirmed_at = asked_at
        return is_member
