"""Two workers that decide on the same new term, because one has lost it without knowing."""

from __future__ import annotations

import json
import signal
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.deployment import Deployment, NewDeployment, WorkerProcess, wait_for
from tests.events import encode, library_event
from tests.failing_worker import FAILING, held_rows
from tests.group_offsets import all_committed
from tests.rules import rule_text
from tests.small_topics import small_topics

WINDOW_SECONDS = 30
ATTEMPTS = 3
IMPATIENT = {
    "FIRSTSEEN_KAFKA__SESSION_TIMEOUT": "6s",
    "FIRSTSEEN_KAFKA__REBALANCE_TIMEOUT": "6s",
}


def program(number: int) -> bytes:
    return encode(library_event(number=number, executable=f"{number}.exe"))


def window() -> int:
    """Return the number of the present window of the quota."""
    return int(time.time() // WINDOW_SECONDS)


def starts_soon() -> bool:
    """Whether most of the present window is still to come."""
    return time.time() % WINDOW_SECONDS < WINDOW_SECONDS / 3


def freeze(worker: WorkerProcess) -> None:
    worker.process.send_signal(signal.SIGSTOP)


def thaw(worker: WorkerProcess) -> None:
    worker.process.send_signal(signal.SIGCONT)


def times_joined(worker: WorkerProcess) -> float:
    return worker.metric("firstseen_rebalance_seconds_count")


def alert_ids(stack: Deployment, name: str) -> list[str]:
    """Return the id of each alert in a topic, summaries left out."""
    return [
        message.key().decode()
        for message in stack.read(name)
        if json.loads(message.value())["detection"].get("new_terms")
    ]


def summarised(stack: Deployment) -> list[int]:
    """Return the number of the window of each summary."""
    windows = [
        alert["detection"]["overflow"]["window"]
        for alert in stack.alerts()
        if alert["detection"]["kind"] == "summary"
    ]
    return [
        int(datetime.fromisoformat(each["start"]).timestamp() // WINDOW_SECONDS) for each in windows
    ]


def hold_an_overflow(stack: Deployment, held: Path) -> int:
    """Let a window have its alert; then hold the rows of the decision that makes it overflow.

    Returns:
        The number of the window. Where it was over too soon, another one is taken.
    """
    for attempt in range(ATTEMPTS):
        wait_for(starts_soon)
        begun, told = window(), len(alert_ids(stack, "alerts"))
        stack.produce([program(2 * attempt)])
        wait_for(lambda told=told: len(alert_ids(stack, "alerts")) > told and all_committed(stack))
        held.touch()
        stack.produce([program(2 * attempt + 1)])
        wait_for(held_rows(held).exists)
        ended = window()
        if begun == ended:
            return begun
        held.unlink()
        wait_for(lambda: all_committed(stack))
        held_rows(held).unlink()
        wait_for(lambda ended=ended: window() > ended)
    raise AssertionError(f"too slow: {ATTEMPTS} times a window was over before it overflowed")


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
    first = stack.start_worker("a", module=FAILING)
    first.wait_ready()
    joined = times_joined(first)
    overflowing = hold_an_overflow(stack, held)
    alerts, overflow = alert_ids(stack, "alerts"), alert_ids(stack, "overflow")
    if is_frozen:
        freeze(first)
    wait_for(lambda: window() > overflowing)

    stack.start_worker("b", module=FAILING, TEST_ROWS_HELD="")
    wait_for(lambda: len(alert_ids(stack, "alerts")) > len(alerts))
    wait_for(lambda: all_committed(stack))
    held.unlink()
    if is_frozen:
        thaw(first)
    wait_for(lambda: times_joined(first) > joined and first.ready())
    assert first.stop() == 0

    assert overflow == alert_ids(stack, "overflow")
    told = alert_ids(stack, "alerts")
    assert len(alerts) + 1 == len(told) == len(set(told))
    # Of the window whose rows came late there may be one, though nothing of it was withheld.
    summaries = summarised(stack)
    assert len(summaries) == len(set(summaries))
    assert max(summaries, default=overflowing) <= overflowing
    assert "decisions_dropped" in first.log.read_text()
