"""Whether a worker is alive, and whether it is making progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from pipeline.errors import StallError

if TYPE_CHECKING:
    from pipeline.stream.app import App

STALL_SECONDS = 120.0
"""After this time with records waiting and no commit, the worker counts as stalled."""

GIVE_UP_SECONDS = 300.0
"""After this time without progress, although brokers answer, the worker gives up and ends."""

ANSWER_SECONDS = 30.0
"""After this time without an answer from any broker, nothing is known about waiting records."""


@dataclass(frozen=True, slots=True)
class Condition:
    """The answer to one question: whether all is well, and a sentence that says why or why not."""

    ok: bool
    reason: str


class Health:
    """Judges a running app.

    *Alive* does not depend on the brokers: when they are down, an orchestrator must not restart the
    whole fleet. An event loop that hangs does not answer at all, which is an answer too.
    """

    def __init__(self, app: App, clock: Callable[[], float] = monotonic) -> None:
        self._app = app
        self._clock = clock
        self._progress_at = clock()
        self._last_commit_at = 0.0
        self.draining = False

    def observe(self, lag_records: int, last_commit_at: float) -> None:
        """Take a sample, about once a second; an empty lag or a new commit counts as progress."""
        if lag_records == 0 or last_commit_at != self._last_commit_at:
            self._last_commit_at = last_commit_at
            self._progress_at = self._clock()

    def reset_progress(self) -> None:
        """Take a sample while partitions are assigned or tables recover: nobody can commit then."""
        self._progress_at = self._clock()

    def alive(self) -> Condition:
        if self._app.failure is not None:
            return Condition(ok=False, reason=f"failed: {type(self._app.failure).__name__}")
        return Condition(ok=True, reason="alive")

    def ready(self) -> Condition:
        """Whether partitions are assigned, tables recovered, and offsets move if records wait."""
        alive = self.alive()
        if not alive.ok:
            return alive
        obstacle = next(self._obstacles(), None)
        return Condition(ok=obstacle is None, reason=obstacle or "ready")

    def _obstacles(self) -> Iterator[str]:
        """Yield the reasons why the worker cannot work, the root cause first."""
        if self.draining:
            yield "draining"
        if not self._app.tables.actives_ready:
            yield "joining the group or recovering tables"
        if self._app.rebalancing:
            yield "rebalancing"
        if not self.answered():
            yield f"no broker answered for {ANSWER_SECONDS:.0f} s"
        if (waiting := self._app.outbox.waiting_seconds()) > ANSWER_SECONDS:
            yield f"outputs have waited {waiting:.0f} s for an acknowledgement"
        if self.stalled():
            yield f"records wait, but no commit for {STALL_SECONDS:.0f} s"

    def stalled(self) -> bool:
        """Whether records have been waiting for too long without a commit."""
        return self._clock() - self._progress_at > STALL_SECONDS

    def answered(self) -> bool:
        """Whether a broker has lately answered a fetch or a commit."""
        consumer = self._app.consumer
        answered_at: float = max(consumer.answered_at(), consumer.last_commit_at)
        return self._clock() - answered_at <= ANSWER_SECONDS

    def hang_error(self) -> StallError | None:
        """Ping the consumer's thread; return why it hangs, or None. Call this once a second."""
        unanswered_pings = self._app.consumer.ping_thread()
        if unanswered_pings <= GIVE_UP_SECONDS:  # one a second
            return None
        return StallError(
            f"the consumer's thread has done nothing else for {GIVE_UP_SECONDS:.0f} s than what it "
            f"is at; a restart repeats the work since the last commit"
        )

    def stall_error(self) -> StallError | None:
        """Return why the worker should give up because it makes no progress, or None."""
        silent = self._clock() - self._progress_at
        if silent <= GIVE_UP_SECONDS or not self.answered():
            return None
        return StallError(
            f"records wait and the brokers answer, but nothing could be committed for "
            f"{silent:.0f} s; a restart repeats the work since the last commit"
        )

    def state(self) -> str:
        """Return the value for `firstseen_worker_state`."""
        if self._app.failure is not None:
            return "failed"
        if self.draining:
            return "draining"
        if self._app.tables.actives_ready and not self._app.rebalancing:
            return "running"
        return "recovering" if self._app.in_recovery else "joining"
