"""Rules and logs that change while a rule learns, on Apache Kafka; and logs with little to learn."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from tests.backfilling import (
    AUTO,
    BROAD,
    CHANGED,
    HELD,
    OTHER,
    backfilled,
    checkpoint,
    finished,
    is_done,
    only,
    past,
    phase,
    position,
    program,
    rule_file,
    started,
    told,
    two_rules,
)
from tests.brokers import Broker
from tests.clients import SECONDS, Sent, client_config
from tests.deployment import Deployment, NewDeployment, WorkerProcess, wait_for
from tests.failing_worker import FAILING


def learning(make: NewDeployment, tmp_path: Path, events: int) -> tuple[Deployment, WorkerProcess]:
    """Return a deployment, and its worker that is in the middle of learning so many events."""
    stack = make(settings={**two_rules(tmp_path), **AUTO}, input_partitions=2)
    stack.produce(past(events))
    worker = stack.start_worker(module=FAILING, TEST_BACKFILL_RATE="50")
    worker.wait_ready()
    wait_for(lambda: position(stack) > 50)
    stack.produce([program(1_000, "meanwhile.exe")])
    # The stream has read all of it as well: the group is as new as the rule.
    put_off = events + 1
    wait_for(lambda: stack.metric("firstseen_sightings_held_total", rule_id=BROAD) == put_off)
    assert 3 == stack.metric(HELD, rule_id=BROAD)
    return stack, worker


def test_a_query_that_changes_while_the_rule_learns_is_learned_anew(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    """Nobody waits for the old one: its hold is no alert."""
    stack, worker = learning(kafka_deployment, tmp_path, 400)
    assert worker.stop() == 0

    rule_file(tmp_path / "rules", BROAD, CHANGED)
    stack.start_worker().wait_ready()
    wait_for(lambda: is_done(stack))
    stack.produce(program(2_000 + n, f"{n}.exe") for n in range(401))
    stack.wait_drained()

    assert {"400.exe": 1} == told(stack)
    assert 0 == stack.metric(HELD)


def test_a_rule_that_is_taken_away_while_it_learns_is_missed_by_nobody_and_goes_on_when_it_is_back(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack, worker = learning(kafka_deployment, tmp_path, 400)
    assert worker.stop() == 0

    worker = stack.start_worker(FIRSTSEEN_RULES__PATHS=only(tmp_path, OTHER))
    worker.wait_ready()
    stack.produce([program(1_001, "while-away.exe"), program(1_002, "o.exe", dll="winlogon.dll")])
    wait_for(lambda: told(stack, OTHER) == {"o.exe": 1})
    held_while_away = stack.metric(HELD)
    assert worker.stop() == 0
    assert phase(stack) == "learn"

    stack.start_worker().wait_ready()
    wait_for(lambda: is_done(stack))
    stack.produce(program(2_000 + n, f"{n}.exe") for n in range(401))
    stack.wait_drained()
    assert 0 == held_while_away
    assert 0 == stack.metric(HELD)
    expected = {"meanwhile.exe": 1, "while-away.exe": 1, "o.exe": 1, "400.exe": 1}
    assert expected == told(stack)


def test_a_rule_that_is_left_held_when_auto_is_switched_off_is_said_and_finished_by_the_command(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack, worker = learning(kafka_deployment, tmp_path, 400)
    assert worker.stop() == 0

    stack.start_worker(FIRSTSEEN_STATE__BACKFILL="off").wait_ready()
    stack.wait_drained()
    assert 3 == stack.metric(HELD, rule_id=BROAD)
    assert {} == told(stack)
    assert backfilled(stack)["resumed"]
    stack.wait_drained()
    assert 0 == stack.metric(HELD, rule_id=BROAD)
    assert 3 == stack.metric(HELD, rule_id=OTHER)
    assert {"meanwhile.exe": 1} == told(stack)


def test_input_partitions_that_are_added_meanwhile_are_told_from_their_beginning(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=two_rules(tmp_path), input_partitions=2)
    stack.produce(past(400))
    with started(stack, "--json", "--max-rate", "100") as command:
        wait_for(lambda: phase(stack) == "learn")
        command.send_signal(signal.SIGSTOP)
        admin = AdminClient(client_config(stack.broker.bootstrap))
        admin.create_partitions([NewPartitions(stack.input, 3)])[stack.input].result(SECONDS)
        added = [program(1_000, "added.exe"), program(1_001, "7.exe")]
        wait_for(lambda: len(partitions(admin, stack)) == 3)
        stack.produce(Sent(event, partition=2) for event in added)
        worker = stack.start_worker()
        worker.wait_ready()
        stack.wait_drained()
        put_off = stack.metric("firstseen_sightings_held_total", rule_id=BROAD)
        command.send_signal(signal.SIGCONT)
        summary = finished(command)
    stack.wait_drained()

    # Partitions are read in no fixed order: an older sighting of 7.exe is left out behind a newer.
    assert put_off in (401, 402)
    assert summary["told"] + summary["learned"] == 402
    assert {"added.exe": 1} == told(stack)
    assert {0, 1, 2} == set(checkpoint(stack))


def partitions(admin: AdminClient, stack: Deployment) -> object:
    return admin.list_topics(stack.input, timeout=SECONDS).topics[stack.input].partitions


def test_what_the_inputs_delete_meanwhile_is_left_out(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    """Before the hand-over and after it: of the latter nobody can tell anything any more."""
    stack = kafka_deployment(settings=two_rules(tmp_path), input_partitions=1)
    stack.produce(past(400))
    with started(stack, "--max-rate", "30"):
        wait_for(lambda: 50 < position(stack) < 350)
    read = position(stack)
    stack.produce(program(1_000 + n, f"later-{n}.exe") for n in range(10))
    delete_before(stack, 404)

    summary = backfilled(stack)

    stack.start_worker().wait_ready()
    stack.produce(program(2_000 + n, f"{n}.exe") for n in range(400))
    stack.wait_drained()
    assert (True, 6) == (summary["done"], summary["told"])
    expected = [*(f"later-{n}.exe" for n in range(4, 10)), *(f"{n}.exe" for n in range(read, 400))]
    assert Counter(expected) == told(stack)


def delete_before(stack: Deployment, offset: int) -> None:
    """Delete the beginning of the log, as retention does."""
    admin = AdminClient(client_config(stack.broker.bootstrap))
    for deleted in admin.delete_records([TopicPartition(stack.input, 0, offset)]).values():
        deleted.result(SECONDS)


def test_an_empty_log_and_a_rule_that_matches_nothing_are_done_at_once(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings={**two_rules(tmp_path), **AUTO}, input_partitions=2)
    empty = backfilled(stack)
    stack.produce(past(20))
    nothing = backfilled(stack, rule_id=OTHER)
    stack.start_worker().wait_ready()
    stack.produce([program(1_000, "7.exe"), program(1_001, "o.exe", dll="winlogon.dll")])
    stack.wait_drained()

    assert (True, 0, 0, 0) == tuple(empty[key] for key in ("done", "read", "learned", "told"))
    assert (True, 20, 0, 0) == tuple(nothing[key] for key in ("done", "read", "learned", "told"))
    # The log was empty when the broad rule learned, so all of it is later.
    assert {f"{n}.exe": 1 for n in range(20)} | {"o.exe": 1} == told(stack)
    assert {"o.exe": 1} == told(stack, OTHER)


def test_the_embedded_broker_is_refused_with_the_reason(
    embedded_broker: Broker, prefix: str, tmp_path: Path
):
    """It keeps no metadata beside an offset. Nothing is held by then: a worker goes on without."""
    stack = Deployment(embedded_broker, prefix, tmp_path / "stack", settings=two_rules(tmp_path))
    stack.create_topics()
    try:
        command = stack.command("history", "backfill", "--rule", BROAD, check=False)
        worker = stack.start_worker(**AUTO)
        assert 4 == worker.process.wait(60)
        worker.was_stopped = True
        stack.start_worker("b").wait_ready()
        stack.produce([program(0, "told.exe")])
        stack.wait_drained()
        found = told(stack)
    finally:
        stack.stop_workers()

    assert 4 == command.returncode
    assert "it needs Apache Kafka" in command.stderr
    assert "it needs Apache Kafka" in worker.tail()
    assert {"told.exe": 1} == found
