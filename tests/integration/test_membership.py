"""Two workers that decide on the same new term, because one has lost it without knowing."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.embedded.process import wait_until
from tests.deployment import Deployment, NewDeployment, WorkerProcess
from tests.events import encode, library_event
from tests.group_offsets import all_committed
from tests.rules import rule_text
from tests.small_topics import small_topics

WINDOW_SECONDS = 15
IMPATIENT = {
    "FIRSTSEEN_KAFKA__SESSION_TIMEOUT": "6s",
    "FIRSTSEEN_KAFKA__REBALANCE_TIMEOUT": "6s",
}


def wait_for(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    assert wait_until(condition, seconds=seconds)


def program(number: int) -> bytes:
    return encode(library_event(number=number, executable=f"{number}.exe"))


def seconds_left() -> float:
    """Return how long the present window of the quota goes on."""
    return WINDOW_SECONDS - time.time() % WINDOW_SECONDS


def freeze(worker: WorkerProcess) -> None:
    worker.process.send_signal(signal.SIGSTOP)


def thaw(worker: WorkerProcess) -> None:
    worker.process.send_signal(signal.SIGCONT)


def times_joined(worker: WorkerProcess) -> float:
    return worker.metric("firstseen_rebalance_seconds_count")


def alert_ids(stack: Deployment, name: str) -> list[str]:
    """Return the id of each alert in a topic, summaries left out."""
    messages = stack.read(name)
    return [
        message.key().decode()
        for message in messages
        if json.loads(message.value())["detection"].get("new_terms")
    ]


@pytest.mark.parametrize("is_frozen", [True, False], ids=["frozen", "late"])
def test_a_worker_that_has_lost_its_partitions_does_not_tell_what_others_decide_again(
    kafka_deployment: NewDeployment, tmp_path: Path, is_frozen: bool
):
    """One of its decisions waits to be written, others see nothing of it and have a later clock."""
    rule, held = tmp_path / "rule.toml", tmp_path / "held"
    rule.write_text(rule_text("r", "process.name:*", interval=f"{WINDOW_SECONDS}s", max_signals=1))
    stack = kafka_deployment(
        settings={
            **small_topics(tmp_path / "topics", 2),
            **IMPATIENT,
            "FIRSTSEEN_RULES__PATHS": str(rule),
            "TEST_ROWS_HELD": str(held),
        },
        input_partitions=2,
    )
    first = stack.start_worker("a", module="tests.failing_worker")
    first.wait_ready()
    joined = times_joined(first)
    wait_for(lambda: seconds_left() > WINDOW_SECONDS - 2)
    stack.produce([program(1)])
    wait_for(lambda: len(alert_ids(stack, "alerts")) == 1 and all_committed(stack))
    held.touch()
    stack.produce([program(2)])
    # The new term is read: its decision is an overflow, since the window has had its alert.
    wait_for(lambda: first.metric("firstseen_new_terms_total") == 2)
    time.sleep(1.0)
    assert seconds_left() > 2, "too slow: the window is nearly over"
    if is_frozen:
        freeze(first)
    time.sleep(seconds_left() + 1)

    stack.start_worker("b", module="tests.failing_worker", TEST_ROWS_HELD="")
    wait_for(lambda: len(alert_ids(stack, "alerts")) == 2)
    wait_for(lambda: all_committed(stack))
    held.unlink()
    if is_frozen:
        thaw(first)
    wait_for(lambda: times_joined(first) > joined and first.ready())
    assert first.stop() == 0

    assert [] == alert_ids(stack, "overflow")
    assert 2 == len(set(alert_ids(stack, "alerts"))) == len(alert_ids(stack, "alerts"))
