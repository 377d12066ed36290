"""Backfills that are stopped, killed, handed over or cut off in the middle, on Apache Kafka.

Whatever happens, the rule tells in the end what a replay of the log tells after the same cut:
`tests.backfilling.due`.
"""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.embedded.process import wait_until
from pipeline.history import Sender
from tests.backfilling import (
    AUTO,
    BROAD,
    HELD,
    OTHER,
    alerts_told,
    backfilled,
    due,
    group_of_broad,
    is_done,
    only,
    past,
    phase,
    position,
    program,
    started,
    told,
    two_rules,
)
from tests.brokers import ApacheKafka
from tests.chaos.corpus import Event
from tests.chaos.flow import Flow
from tests.deployment import Deployment, NewDeployment, WorkerProcess, wait_for
from tests.failing_worker import FAILING

STOP_SECONDS = 10.0
READ = "firstseen_backfill_records_total"
REMAINING = "firstseen_backfill_remaining_records"


def stop(worker: WorkerProcess) -> int:
    """Send SIGTERM; return the exit code of a process that is gone in time."""
    began = time.monotonic()
    code = worker.stop()
    assert time.monotonic() - began < STOP_SECONDS, worker.tail()
    return code


def learning(make: NewDeployment, tmp_path: Path, events: int, **options: object) -> Deployment:
    """Return a deployment whose log holds so many events, and whose workers learn from it."""
    settings = {**two_rules(tmp_path), **AUTO}
    stack = make(settings=settings, input_partitions=2, **options)
    stack.produce(past(events))
    return stack


def test_a_worker_that_is_told_to_stop_while_it_learns_ends_in_time_and_the_next_goes_on(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = learning(kafka_deployment, tmp_path, 600)
    worker = stack.start_worker(module=FAILING, TEST_BACKFILL_RATE="60")
    wait_for(lambda: 100 < position(stack) < 500)
    stack.produce([program(1_000, "live.exe"), program(1_001, "599.exe")])

    assert stop(worker) == 0

    kept = position(stack)
    assert 100 < kept < 600
    assert phase(stack) == "learn"
    worker = stack.start_worker()
    wait_for(lambda: is_done(stack))
    assert 600 - kept + 2 == worker.metric(READ, rule_id=BROAD)
    stack.wait_drained()
    assert {"live.exe": 1} == told(stack)
    stack.produce(program(2_000 + n, f"{n}.exe") for n in range(601))
    stack.wait_drained()
    assert {"live.exe": 1, "600.exe": 1} == told(stack)


def test_a_worker_that_learns_while_the_broker_hangs_ends_in_time(
    own_kafka: ApacheKafka, own_deployment: NewDeployment, tmp_path: Path
):
    stack = learning(own_deployment, tmp_path, 600)
    worker = stack.start_worker(module=FAILING, TEST_BACKFILL_RATE="60")
    wait_for(lambda: 100 < position(stack) < 500)
    own_kafka.pause()
    try:
        assert stop(worker) in {0, 5}
    finally:
        own_kafka.resume()

    stack.start_worker()
    wait_for(lambda: is_done(stack))
    stack.produce([program(1_000, "live.exe"), program(1_001, "599.exe")])
    stack.wait_drained()
    assert {"live.exe": 1} == told(stack)


def test_the_next_owner_of_a_rule_goes_on_with_it(kafka_deployment: NewDeployment, tmp_path: Path):
    stack = learning(kafka_deployment, tmp_path, 600)
    # The rule is taken up when the rebalance is over, not with the next look at all rules.
    slow = {"TEST_BACKFILL_RATE": "60", "TEST_SEEK_SECONDS": "0.5", "TEST_LOOK_SECONDS": "600"}
    workers = [stack.start_worker(name, module=FAILING, **slow) for name in ("a", "b")]
    for worker in workers:
        worker.wait_ready()

    def readers() -> list[WorkerProcess]:
        return [each for each in workers if each.metric(REMAINING, rule_id=BROAD) > 0]

    # The one that started first may have begun, and given the rule's partition to the other.
    wait_for(lambda: position(stack) > 100 and len(readers()) == 1)
    (reader,) = readers()
    (other,) = set(workers) - {reader}
    stack.produce([program(1_000, "live.exe"), program(1_001, "7.exe")])
    before = other.metric(READ, rule_id=BROAD)
    assert stop(reader) == 0
    kept = position(stack)
    wait_for(lambda: is_done(stack))
    stack.wait_drained()

    assert 100 < kept < 600
    assert {"live.exe": 1} == told(stack)
    assert 602 - kept == other.metric(READ, rule_id=BROAD) - before
    assert 0 == stack.metric(HELD, rule_id=BROAD)


SOME_LEARNED = "some terms are learned, which is not noted"
LIVES = {
    "the hand-over is noted, nothing is held": "after 1",
    "it is held, which is not noted": "before 2",
    "that there is something to learn is not noted": "before 4",
    SOME_LEARNED: "before 3",
    "it is released, which is not noted": "before 4",
    "all is told, which is not noted": "before 3",
    "it is done, which is not noted": "before 3",
}
"""What has happened when a worker dies, and the checkpoint at which it does; one goes on where the
last has died, so the numbers begin anew with each. A worker saves what it has found first."""


def test_a_worker_that_dies_between_any_two_steps_loses_nothing_and_tells_nothing_twice(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = learning(kafka_deployment, tmp_path, 200)
    for number, (what, where) in enumerate(LIVES.items()):
        slow = {"TEST_BACKFILL_RATE": "60"} if what == SOME_LEARNED else {}
        worker = stack.start_worker(module=FAILING, TEST_BACKFILL_DIE=where, **slow)
        worker.was_stopped = True  # it will be
        wait_for(lambda: worker.process.poll() is not None, seconds=90)  # noqa: B023
        assert worker.process.returncode == -9, f"{what}: {worker.tail()}"
        fresh = [program(1_000 + 10 * number + n, f"{number}-{n}.exe") for n in range(3)]
        stack.produce([*fresh, program(2_000 + number, f"{number}.exe")])
    stack.start_worker().wait_ready()
    wait_for(lambda: is_done(stack))
    stack.produce(program(3_000 + n, f"{n}.exe") for n in range(201))
    stack.wait_drained()

    expected = due(stack, tmp_path)
    assert expected == alerts_told(stack)
    assert 3 * len(LIVES) + 1 == len(expected)


@pytest.mark.parametrize("seed", [1, 2])
def test_events_that_never_stop_are_learned_or_told_once_whoever_is_killed(
    kafka_deployment: NewDeployment, tmp_path: Path, seed: int
):
    """Workers and a command learn at random moments, all at once, and die at others."""
    rng = random.Random(seed)
    stack = kafka_deployment(settings=two_rules(tmp_path), input_partitions=3)
    stack.produce(past(1_000))
    stack.start_worker(FIRSTSEEN_RULES__PATHS=only(tmp_path, OTHER)).wait_ready()
    stack.wait_drained()
    assert stack.workers[0].stop() == 0
    flow = Flow(stack.broker.bootstrap, stack.input)
    sending = flow.start(stream(rng, 1_500), 45.0)
    until = time.monotonic() + 45.0
    killing = threading.Event()

    def live(name: str) -> None:
        """Start a worker again and again, and kill it or stop it."""
        own = random.Random(f"{seed} {name}")
        while not killing.is_set():
            worker = stack.start_worker(name, module=FAILING, TEST_BACKFILL_RATE="100", **AUTO)
            killing.wait(own.uniform(2.0, 20.0))
            if own.random() < 0.8:
                worker.kill()
            else:
                worker.stop()

    lives = [threading.Thread(target=live, args=(name,)) for name in ("a", "b")]
    for thread in lives:
        thread.start()
    while time.monotonic() < until:
        with started(stack, "--max-rate", "200") as command:
            wait_until(lambda: command.poll() is not None, seconds=rng.uniform(1.0, 15.0))
            time.sleep(rng.uniform(0.0, 3.0))
    killing.set()
    for thread in (*lives, sending):
        thread.join()
    flow.flush()
    for name in ("a", "b"):
        stack.start_worker(name, **AUTO).wait_ready()
    wait_for(lambda: is_done(stack))
    stack.produce(program(9_000 + n, f"{n}.exe") for n in range(1_001))
    stack.wait_drained()

    expected = due(stack, tmp_path)
    assert expected == alerts_told(stack)
    assert len(expected) > 100


def stream(rng: random.Random, count: int) -> list[Event]:
    """Return events of programs that are in the log, of new ones, and of those once more."""
    kinds = [
        lambda: f"{rng.randrange(1_000)}.exe",
        lambda: f"fresh-{rng.randrange(count)}.exe",
        lambda: f"again-{rng.randrange(10)}.exe",
    ]
    return [Event(program(10_000 + n, rng.choice(kinds)()), None) for n in range(count)]


def test_a_hold_that_comes_late_is_undone_by_the_worker_that_owns_the_rule(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    """Two workers began at once, and one of them was slow: the other is done already."""
    stack = learning(kafka_deployment, tmp_path, 50)
    worker = stack.start_worker()
    wait_for(lambda: is_done(stack))
    stack.wait_drained()
    assert worker.stop() == 0

    with Sender(Settings.load(environ=stack.env)) as sender:
        sender.hold(BROAD, group_of_broad(stack).rpartition("-")[2])
    stack.produce([program(1_000, "late.exe"), program(1_001, "7.exe")])
    # It looks when it starts, before it has come to the hold, and then after a while.
    stack.start_worker(module=FAILING, TEST_LOOK_SECONDS="5").wait_ready()
    wait_for(lambda: told(stack) == {"late.exe": 1})
    wait_for(lambda: stack.metric(HELD, rule_id=BROAD) == 0)
    stack.wait_drained()

    assert is_done(stack)
    assert {"late.exe": 1} == told(stack)
    assert backfilled(stack)["was_done"]
