"""Terms leave the state and its changelog on a running worker, and only those that should."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.embedded.process import wait_until
from tests.deployment import NewDeployment, wait_for
from tests.group_offsets import all_committed
from tests.programs import program, told
from tests.small_topics import small_topics


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
    wait_for(lambda: stack.rows_in_changelog() == 40, seconds=30)
    assert worker.metric("firstseen_state_rule_entries") == 40

    # Both kinds again, on a worker that has only the changelog to go by.
    assert worker.stop() == 0
    shutil.rmtree(stack.directory / "a" / "state")
    again = stack.start_worker()
    again.wait_ready()
    stack.produce(program(200 + n, f"old-{n}.exe", days=41) for n in range(5))
    stack.produce(program(300 + n, f"fresh-{n}.exe", days=41) for n in range(5))
    wait_for(lambda: all_committed(stack))

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
    wait_for(lambda: worker.metric("firstseen_state_rule_entries") == 1, seconds=30)
    stack.produce(program(n, f"{n}.exe", days=n / 100) for n in range(1, 30))
    stack.produce(program(100 + n, f"{n}.exe", days=1 + n / 100) for n in range(30))
    wait_for(lambda: all_committed(stack))

    assert {f"{n}.exe": 1 if n < 10 else 2 for n in range(30)} == told(stack)
    assert 10 == stack.rows_in_changelog()
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
    wait_for(lambda: stack.rows_in_changelog() == 9, seconds=30)
    stack.produce(program(100 + n, f"{n}.exe", days=10) for n in range(9, -1, -1))
    wait_for(lambda: all_committed(stack))
    assert {f"{n}.exe": 1 + (n == 0) for n in range(10)} == told(stack)
