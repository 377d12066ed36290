"""Whether a worker is alive, and whether it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from pipeline.errors import StallError

if TYPE_CHECKING:
    from pipeline.stream.app import App

STALL_SECONDS = 120.0
"""Records wait and no offset was committed for so long: the worker makes no progress."""

GIVE_UP_SECONDS = 300.0
"""As `STALL_SECONDS`, and the brokers answer: it is the worker that hangs, so it ends."""

ANSWER_SECONDS = 30.0
"""No broker has answered for so long: nothing is known of the records that may be waiting."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One answer: is it fine, and the sentence that says why or why not."""

    ok: bool
    reason: str


class Health:
    """Judges a running app.

    *Alive* does not depend on the broker: a broker that is away must not make an orchestrator
    restart the whole fleet. A loop that hangs does not answer at all, which is an answer too.
    """

    def __init__(self, app: App, clock: Callable[[], float] = monotonic) -> None:
        self._app = app
        self._clock = clock
        self._progress_at = clock()
        self._last_commit_at = 0.0
        self.draining = False

    def observe(self, lag_records: int, last_commit_at: float) -> None:
        """Take a sample, about once a second: no waiting records, or a new commit, is progress."""
        if lag_records == 0 or last_commit_at != self._last_commit_at:
            self._last_commit_at = last_commit_at
            self._progress_at = self._clock()

    def expect_nothing(self) -> None:
        """Take a sample while partitions are assigned or tables recovered: nobody can commit."""
        self._progress_at = self._clock()

    def alive(self) -> Condition:
        if self._app.failure is not None:
            return Condition(ok=False, reason=f"failed: {type(self._app.failure).__name__}")
        return Condition(ok=True, reason="alive")

    def ready(self) -> Condition:
        """Ready: partitions assigned, tables recovered, offsets move while records wait."""
        alive = self.alive()
        if not alive.ok:
            return alive
        obstacle = next(self._obstacles(), None)
        return Condition(ok=obstacle is None, reason=obstacle or "ready")

    def _obstacles(self) -> Iterator[str]:
        """Yield what keeps the worker from working, the first cause first."""
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
        """Whether records have been waiting for long without a commit."""
        return self._clock() - self._progress_at > STALL_SECONDS

    def answered(self) -> bool:
        """Whether a broker has answered a fetch or a commit lately."""
        consumer = self._app.consumer
        answered_at: float = max(consumer.answered_at(), consumer.last_commit_at)
        return self._clock() - answered_at <= ANSWER_SECONDS

    def hang(self) -> StallError | None:
        """Return why the worker should give up whatever it does; called about once a second."""
        if self._app.consumer.unanswered() <= GIVE_UP_SECONDS:
            return None
        return StallError(
            f"the consumer's thread has done nothing else for {GIVE_UP_SECONDS:.0f} s than what it "
            f"is at; a restart repeats the work since the last commit"
        )

    def stall(self) -> StallError | None:
        """Return why the worker should give up; None while it need not."""
        silent = self._clock() - self._progress_at
        if silent <= GIVE_UP_SECONDS or not self.answered():
            return None
        return StallError(
            f"records wait and the brokers answer, but nothing could be committed for "
            f"{silent:.0f} s; a restart repeats the work since the last commit"
        )

    def state(self) -> str:
        """Return the word for `firstseen_worker_state`."""
        if self._app.failure is not None:
            return "failed"
        if self.draining:
            return "draining"
        if self._app.tables.actives_ready and not self._app.rebalancing:
            return "running"
        return "recovering" if self._app.in_recovery else "joining"
