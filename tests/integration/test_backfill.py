"""A rule learns from the retained log while workers run, on Apache Kafka."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from pipeline.embedded.process import wait_until
from tests.backfilling import (
    AUTO,
    BROAD,
    CHANGED,
    HELD,
    OTHER,
    backfilled,
    finished,
    is_done,
    only,
    past,
    position,
    program,
    rule_file,
    started,
    told,
    two_rules,
)
from tests.brokers import ApacheKafka, Broker
from tests.clients import create_topic
from tests.deployment import Deployment, NewDeployment


def test_a_rule_that_is_added_knows_what_the_log_held_and_tells_what_comes_later(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=two_rules(tmp_path))
    worker = stack.start_worker(FIRSTSEEN_RULES__PATHS=only(tmp_path, OTHER))
    worker.wait_ready()
    stack.produce(past(50))
    stack.wait_drained()
    assert worker.stop() == 0

    summary = backfilled(stack, "--since", "14d")
    stack.start_worker().wait_ready()
    later = [program(100 + n, f"{n}.exe") for n in range(60)]
    stack.produce([*later, program(200, "o.exe", dll="winlogon.dll")])
    stack.wait_drained()

    assert {f"{n}.exe": 1 for n in range(50, 60)} | {"o.exe": 1} == told(stack)
    assert {"o.exe": 1} == told(stack, OTHER)
    assert (True, 50, 50, 0) == tuple(summary[k] for k in ("done", "read", "learned", "told"))
    again = stack.command("history", "backfill", "--rule", BROAD)
    assert "nothing to do" in again.stderr
    assert backfilled(stack)["was_done"]


def test_other_rules_go_on_and_what_comes_meanwhile_is_told_at_the_end(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=two_rules(tmp_path))
    stack.produce(past(300))
    for name in ("a", "b"):
        stack.start_worker(name, FIRSTSEEN_RULES__PATHS=only(tmp_path, OTHER)).wait_ready()
    stack.wait_drained()
    for worker in stack.workers:
        assert worker.stop() == 0
    for name in ("a", "b"):
        stack.start_worker(name).wait_ready()

    with started(stack, "--json", "--max-rate", "20") as command:
        assert wait_until(lambda: stack.metric(HELD, rule_id=BROAD) == 3, seconds=60)
        command.send_signal(signal.SIGSTOP)
        known = [program(1_000 + n, f"{n}.exe") for n in range(300)]
        fresh = [program(2_000 + n, f"{n}.exe") for n in range(300, 320)]
        stack.produce([*fresh, *known, program(3_000, "o.exe", dll="winlogon.dll")])
        assert wait_until(lambda: told(stack, OTHER) == {"o.exe": 1}, seconds=60)
        stack.wait_drained()
        put_off = stack.metric("firstseen_sightings_held_total", rule_id=BROAD)
        meanwhile = told(stack)
        command.send_signal(signal.SIGCONT)
        summary = finished(command)
    stack.wait_drained()
    expected = {f"{n}.exe": 1 for n in range(300, 320)} | {"o.exe": 1}
    assert expected == told(stack)
    stack.produce([program(4_000, "after.exe"), program(4_001, "7.exe"), program(4_002, "310.exe")])
    stack.wait_drained()

    assert expected | {"after.exe": 1} == told(stack)
    assert {} == meanwhile
    assert 321 == put_off
    assert (300, 321) == (summary["learned"], summary["told"])
    assert 0 == stack.metric(HELD, rule_id=BROAD)


def test_a_command_and_a_worker_that_are_killed_go_on_where_they_were(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=two_rules(tmp_path), input_partitions=2)
    stack.produce(past(600))
    stack.start_worker("a", FIRSTSEEN_RULES__PATHS=only(tmp_path, OTHER)).wait_ready()
    stack.wait_drained()
    assert stack.workers[0].stop() == 0
    worker = stack.start_worker("a")
    worker.wait_ready()

    with started(stack, "--max-rate", "50"):
        assert wait_until(lambda: 100 < position(stack) < 600, seconds=60)
        stack.produce([program(1_000, "live.exe"), program(1_001, "599.exe")])
        assert wait_until(lambda: stack.metric(HELD, rule_id=BROAD) == 3, seconds=60)
    worker.kill()
    shutil.rmtree(stack.directory / "a" / "state")
    kept = position(stack)
    stack.start_worker("a").wait_ready()
    stack.produce([program(1_002, "also.exe"), program(1_003, "3.exe")])
    stack.wait_drained()
    before = told(stack)
    summary = backfilled(stack)
    stack.wait_drained()

    assert {} == before
    assert summary["resumed"]
    assert 600 - kept + 4 == summary["read"]
    assert {"live.exe": 1, "also.exe": 1} == told(stack)
    stack.produce([program(2_000 + n, f"{n}.exe") for n in range(601)])
    stack.wait_drained()
    assert {"live.exe": 1, "also.exe": 1, "600.exe": 1} == told(stack)


def test_new_rules_and_changed_queries_learn_by_themselves(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings={**two_rules(tmp_path), **AUTO})
    stack.produce(past(300))
    workers = [stack.start_worker(name) for name in ("a", "b")]
    for worker in workers:
        worker.wait_ready()
    assert wait_until(lambda: is_done(stack), seconds=60)
    stack.wait_drained()
    at_first = told(stack)
    stack.produce(program(1_000 + n, f"{n}.exe") for n in range(310))
    stack.wait_drained()

    assert {} == at_first
    expected = {f"{n}.exe": 1 for n in range(300, 310)}
    assert expected == told(stack)
    for worker in workers:
        assert worker.stop() == 0

    rule_file(tmp_path / "rules", BROAD, CHANGED)
    workers = [stack.start_worker(name) for name in ("a", "b")]
    workers[0].wait_ready()
    workers[1].kill()
    stack.start_worker("b").wait_ready()
    assert wait_until(lambda: is_done(stack), seconds=60)
    stack.produce(program(2_000 + n, f"{n}.exe") for n in range(320))
    stack.wait_drained()
    expected |= {f"{n}.exe": 1 for n in range(310, 320)}
    assert expected == told(stack)
    for worker in stack.workers:
        if not worker.was_stopped:
            assert worker.stop() == 0

    again = stack.start_worker("a")
    again.wait_ready()
    stack.produce([program(3_000, "320.exe"), program(3_001, "5.exe")])
    stack.wait_drained()
    assert expected | {"320.exe": 1} == told(stack)
    assert 0 == again.metric("firstseen_backfill_records_total")


def test_switching_it_on_costs_a_rule_that_runs_no_alert(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=two_rules(tmp_path))
    worker = stack.start_worker()
    worker.wait_ready()
    stack.produce(program(n, f"{n}.exe") for n in range(40))
    stack.wait_drained()
    assert worker.stop() == 0
    # The workers are behind: what they have not read is not the past of a rule that runs.
    stack.produce(program(100 + n, f"{n}.exe") for n in range(50))

    worker = stack.start_worker(**AUTO)
    worker.wait_ready()
    assert wait_until(lambda: is_done(stack), seconds=60)
    stack.wait_drained()

    assert {f"{n}.exe": 1 for n in range(50)} == told(stack)


def test_what_cannot_be_done_is_said(kafka_deployment: NewDeployment, tmp_path: Path):
    stack = kafka_deployment(settings=two_rules(tmp_path))
    stack.produce([program(0, "0.exe")])

    unknown = stack.command("history", "backfill", "--rule", "no-such-rule", check=False)
    short = stack.command("history", "backfill", "--rule", BROAD, "--since", "30d")

    assert 4 == unknown.returncode
    assert "no-such-rule is not among the rules" in unknown.stderr
    assert "the inputs retain nothing from before" in short.stderr


def test_a_worker_waits_for_a_cluster_that_has_no_coordinator_yet(
    groupless_kafka: ApacheKafka, prefix: str, tmp_path: Path
):
    """What a new or busy cluster does for a while: it answers everything but groups."""
    broker = Broker("kafka", groupless_kafka.bootstrap)
    settings = {**two_rules(tmp_path), **AUTO}
    stack = Deployment(broker, prefix, tmp_path / prefix, 64, settings=settings)
    stack.create_topics()
    stack.produce(past(50))

    worker = stack.start_worker()
    try:
        assert wait_until(lambda: '"group_awaited"' in worker.tail(), seconds=60)
        kept = {"cleanup.policy": "compact"}
        create_topic(broker.bootstrap, "__consumer_offsets", partitions=50, configs=kept)
        worker.wait_ready()
        assert wait_until(lambda: is_done(stack), seconds=60)
        stack.produce(program(1_000 + n, f"{n}.exe") for n in range(53))
        stack.wait_drained()
    finally:
        stack.stop_workers()

    assert {f"{n}.exe": 1 for n in range(50, 53)} == told(stack)
