"""What a worker says about itself, second by second."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline.stream.health import ANSWER_SECONDS, GIVE_UP_SECONDS, STALL_SECONDS, Health


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """A running worker as `Health` sees it, whose brokers answer at once."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.commit_at = self.answered = self.clock.now
        self.unanswered = 0
        self.waiting = 0.0
        consumer = SimpleNamespace(
            answered_at=lambda: self.answered, ping_thread=lambda: self.unanswered
        )
        self.app = SimpleNamespace(
            failure=None,
            rebalancing=False,
            tables=SimpleNamespace(actives_ready=True),
            consumer=consumer,
            outbox=SimpleNamespace(waiting_seconds=lambda: self.waiting),
        )
        consumer.last_commit_at = self.commit_at
        self.health = Health(self.app, self.clock)

    def pass_time(
        self, seconds: float, *, lag: int = 0, commits: bool = False, answers: bool = True
    ) -> None:
        """Let time pass, with a sample a second."""
        for _ in range(int(seconds)):
            self.clock.now += 1
            if answers:
                self.answered = self.clock.now
            if commits:
                self.app.consumer.last_commit_at = self.clock.now
            self.health.observe(lag, self.app.consumer.last_commit_at)


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_an_idle_worker_whose_brokers_answer_stays_ready(worker: Worker):
    worker.pass_time(10 * GIVE_UP_SECONDS)

    assert worker.health.ready().ok
    assert worker.health.stall_error() is None


def test_a_worker_that_commits_while_records_wait_is_ready(worker: Worker):
    worker.pass_time(2 * GIVE_UP_SECONDS, lag=1_000, commits=True)

    assert worker.health.ready().ok
    assert worker.health.stall_error() is None


def test_outputs_that_nobody_acknowledges_are_told_but_no_reason_to_end(worker: Worker):
    """Reading may have gone on to the end, so that nothing else would say so."""
    worker.waiting = ANSWER_SECONDS + 1
    worker.pass_time(2 * GIVE_UP_SECONDS)

    assert worker.health.ready().reason == "outputs have waited 31 s for an acknowledgement"
    assert worker.health.stall_error() is None
    assert worker.health.alive().ok


def test_waiting_records_without_a_commit_are_told_and_later_end_the_worker(worker: Worker):
    worker.pass_time(STALL_SECONDS - 1, lag=1)
    assert worker.health.ready().ok

    worker.pass_time(3, lag=1)
    assert "no commit for 120 s" in worker.health.ready().reason
    assert worker.health.stall_error() is None

    worker.pass_time(GIVE_UP_SECONDS - STALL_SECONDS, lag=1)
    stall = worker.health.stall_error()
    assert stall is not None
    assert stall.exit_code == 5


def test_brokers_that_do_not_answer_are_told_but_no_reason_to_end(worker: Worker):
    worker.pass_time(ANSWER_SECONDS + 1, lag=1, answers=False)
    assert worker.health.ready().reason == "no broker answered for 30 s"
    assert worker.health.alive().ok

    worker.pass_time(2 * GIVE_UP_SECONDS, lag=1, answers=False)
    assert worker.health.stall_error() is None

    worker.pass_time(1, commits=True)
    assert worker.health.ready().ok


def test_a_thread_that_does_not_answer_ends_the_worker(worker: Worker):
    worker.unanswered = int(GIVE_UP_SECONDS)
    assert worker.health.hang_error() is None

    worker.unanswered += 1
    hang = worker.health.hang_error()
    assert hang is not None
    assert hang.exit_code == 5


def test_a_commit_is_an_answer_too(worker: Worker):
    worker.pass_time(ANSWER_SECONDS + 1, lag=1, answers=False, commits=True)

    assert worker.health.ready().ok


def test_a_long_recovery_is_no_stall(worker: Worker):
    worker.app.tables.actives_ready = False
    for _ in range(int(2 * GIVE_UP_SECONDS)):
        worker.clock.now += 1
        worker.answered = worker.clock.now
        worker.health.reset_progress()
    worker.app.tables.actives_ready = True
    worker.pass_time(1, lag=100_000)

    assert worker.health.ready().ok
    assert worker.health.stall_error() is None
