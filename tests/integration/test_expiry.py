"""Terms leave the state and its changelog on a running worker, and only those that should."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import timedelta
from pathlib import Path

from pipeline.embedded.process import wait_until
from pipeline.engine.identity import KEY_BYTES
from tests.clients import read_all
from tests.deployment import Deployment, NewDeployment
from tests.events import START, encode, library_event
from tests.group_offsets import all_committed
from tests.small_topics import small_topics


def program(number: int, executable: str, *, days: float = 0) -> bytes:
    at = START + timedelta(days=days)
    return encode(library_event(number=number, executable=executable, at=at))


def told(stack: Deployment) -> Counter[str]:
    """How often each program was told as new."""
    return Counter(
        term["value"]
        for alert in stack.alerts()
        for term in alert["detection"].get("new_terms", ())
        if term["field"] == "process.executable"
    )


def rows_in_changelog(stack: Deployment) -> int:
    """How many keys of the first seen changelog have a row and no tombstone after it."""
    latest = {
        message.key(): message.value()
        for message in read_all(stack.broker.bootstrap, f"{stack.prefix}-first-seen-changelog")
        if len(message.key()) == KEY_BYTES
    }
    return sum(value is not None for value in latest.values())


def test_terms_whose_history_is_over_leave_the_table_and_the_changelog(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    settings = {
        **small_topics(tmp_path / "topics", 2),
        "FIRSTSEEN_STATE__SWEEP_INTERVAL": "1s",
    }
    stack = kafka_deployment(settings=settings, input_partitions=1)
    worker = stack.start_worker()
    worker.wait_ready()
    stack.produce(program(n, f"old-{n}.exe") for n in range(40))
    stack.produce(program(100 + n, f"fresh-{n}.exe", days=40) for n in range(40))

    assert wait_until(
        lambda: worker.metric("firstseen_state_removed_total", reason="expired") == 40, seconds=60
    ), worker.tail()
    assert wait_until(lambda: rows_in_changelog(stack) == 40, seconds=30)
    assert worker.metric("firstseen_state_rule_entries") == 40

    # Both kinds again, on a worker that has only the changelog to go by.
    assert worker.stop() == 0
    shutil.rmtree(stack.directory / "a" / "state")
    again = stack.start_worker()
    again.wait_ready()
    stack.produce(program(200 + n, f"old-{n}.exe", days=41) for n in range(5))
    stack.produce(program(300 + n, f"fresh-{n}.exe", days=41) for n in range(5))
    assert wait_until(lambda: all_committed(stack), seconds=60)

    expected = {f"old-{n}.exe": 1 + (n < 5) for n in range(40)}
    assert expected | {f"fresh-{n}.exe": 1 for n in range(40)} == told(stack)


def test_a_rule_that_is_full_tells_on_and_keeps_what_it_knows(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    settings = {
        **small_topics(tmp_path / "topics", 1),
        "FIRSTSEEN_STATE__MAX_ENTRIES_PER_RULE": "10",
    }
    stack = kafka_deployment(settings=settings, input_partitions=1)
    worker = stack.start_worker()
    worker.wait_ready()
    # The bound holds once the first pass has counted the rows.
    stack.produce([program(0, "0.exe")])
    assert wait_until(lambda: worker.metric("firstseen_state_rule_entries") == 1, seconds=30)
    stack.produce(program(n, f"{n}.exe", days=n / 100) for n in range(1, 30))
    stack.produce(program(100 + n, f"{n}.exe", days=1 + n / 100) for n in range(30))
    assert wait_until(lambda: all_committed(stack), seconds=60)

    assert {f"{n}.exe": 1 if n < 10 else 2 for n in range(30)} == told(stack)
    assert 10 == rows_in_changelog(stack)
    assert 40 == worker.metric("firstseen_state_refused_total")
    assert 1 == worker.tail(500).count("state_full")


def test_a_full_rule_that_may_forget_loses_its_oldest_terms_also_in_the_changelog(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    settings = {
        **small_topics(tmp_path / "topics", 1),
        "FIRSTSEEN_STATE__MAX_ENTRIES_PER_RULE": "10",
        "FIRSTSEEN_STATE__WHEN_FULL": "forget_oldest",
        "FIRSTSEEN_STATE__SWEEP_INTERVAL": "1s",
    }
    stack = kafka_deployment(settings=settings, input_partitions=1)
    worker = stack.start_worker()
    worker.wait_ready()
    stack.produce(program(n, f"{n}.exe", days=n) for n in range(10))

    # Down to nine tenths of the bound.
    assert wait_until(
        lambda: worker.metric("firstseen_state_removed_total", reason="oldest") == 1, seconds=60
    ), worker.tail()
    assert wait_until(lambda: rows_in_changelog(stack) == 9, seconds=30)
    stack.produce(program(100 + n, f"{n}.exe", days=10) for n in range(9, -1, -1))
    assert wait_until(lambda: all_committed(stack), seconds=60)
    assert {f"{n}.exe": 1 + (n == 0) for n in range(10)} == told(stack)
