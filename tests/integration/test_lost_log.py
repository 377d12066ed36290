"""Records that are gone: deleted before they were read, or lost by the brokers after it."""

from __future__ import annotations

import json
import signal
import time
from contextlib import closing
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.clients import SECONDS, client_config, create_topic
from tests.deployment import Deployment, NewDeployment, WorkerProcess, wait_for
from tests.events import encode, library_event
from tests.failing_worker import FAILING
from tests.group_offsets import all_committed, committed, ends
from tests.small_topics import small_deployment


def events(begin: int, end: int) -> list[bytes]:
    return [encode(library_event(number=n, host=f"h{n}")) for n in range(begin, end)]


def hosts(stack: Deployment) -> set[str]:
    return {alert["host"]["id"] for alert in stack.alerts()}


def lines(worker: WorkerProcess, action: str) -> list[dict[str, object]]:
    logged = [json.loads(line) for line in worker.log.read_text().splitlines()]
    return [line for line in logged if line.get("event.action") == action]


def commit_past_the_end(stack: Deployment, offset: int) -> None:
    """Leave the group as it is after the brokers have lost the end of the input."""
    config = {**client_config(stack.broker.bootstrap), "group.id": stack.prefix}
    with closing(Consumer(config)) as client:
        client.commit(offsets=[TopicPartition(stack.input, 0, offset)], asynchronous=False)


def delete_before(stack: Deployment, *places: tuple[str, int, int]) -> None:
    """Delete the records before these offsets as retention does: of topics and partitions."""
    admin = AdminClient(client_config(stack.broker.bootstrap))
    wanted = [TopicPartition(*place) for place in places]
    for answer in admin.delete_records(wanted, request_timeout=SECONDS).values():
        answer.result()


def set_policy(stack: Deployment, topic: str, policy: str) -> None:
    entry = ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient(client_config(stack.broker.bootstrap))
    admin.incremental_alter_configs([resource], request_timeout=SECONDS)[resource].result()


def test_a_log_that_ends_before_the_committed_offset_is_read_again_and_committed_as_it_is(
    kafka_deployment: NewDeployment,
):
    stack = kafka_deployment(input_partitions=1)
    stack.produce(events(0, 10))
    commit_past_the_end(stack, 30)

    first = stack.start_worker()
    first.wait_ready()
    stack.wait_drained()
    assert first.stop() == 0
    read_up_to = committed(stack)[stack.input, 0]
    # The log outgrows the old offset while no worker runs.
    stack.produce(events(10, 40))
    stack.start_worker().wait_ready()
    stack.wait_drained()

    assert read_up_to == 10
    assert hosts(stack) == {f"h{n}" for n in range(40)}
    assert all_committed(stack)
    (told,) = lines(first, "log_cut_short")
    assert (told["log.level"], told["kafka.topic"], told["kafka.offset"]) == (
        "error",
        stack.input,
        30,
    )


def test_records_that_are_deleted_before_they_are_read_are_told_and_counted(
    kafka_deployment: NewDeployment,
):
    stack = kafka_deployment(input_partitions=1)
    stack.produce(events(0, 10))
    first = stack.start_worker()
    first.wait_ready()
    stack.wait_drained()
    assert first.stop() == 0

    stack.produce(events(10, 30))
    delete_before(stack, (stack.input, 0, 25))
    second = stack.start_worker("b")
    second.wait_ready()
    stack.wait_drained()

    assert hosts(stack) == {f"h{n}" for n in [*range(10), *range(25, 30)]}
    assert second.metric("firstseen_records_lost_total", topic=stack.input) == 15
    (told,) = lines(second, "records_lost")
    assert (told["log.level"], told["kafka.offset"], told["firstseen.records"]) == ("error", 10, 15)


def test_records_that_are_deleted_while_a_worker_is_frozen_count_once_and_it_goes_on(
    kafka_deployment: NewDeployment,
):
    """Frozen for longer than its session: it finds them gone, joins again, and seeks back there."""
    stack = kafka_deployment(input_partitions=1)
    stack.produce(events(0, 10))
    worker = stack.start_worker(FIRSTSEEN_KAFKA__SESSION_TIMEOUT="6s")
    worker.wait_ready()
    stack.wait_drained()

    worker.process.send_signal(signal.SIGSTOP)
    stack.produce(events(10, 30))
    delete_before(stack, (stack.input, 0, 25))
    time.sleep(8)
    worker.process.send_signal(signal.SIGCONT)
    wait_for(lambda: hosts(stack) >= {f"h{n}" for n in range(25, 30)})
    stack.wait_drained()

    assert hosts(stack) == {f"h{n}" for n in [*range(10), *range(25, 30)]}
    assert all_committed(stack)
    assert worker.metric("firstseen_records_lost_total", topic=stack.input) == 15


def test_a_changelog_without_its_beginning_is_told_but_does_not_count_as_lost_records(
    kafka_deployment: NewDeployment,
):
    stack = kafka_deployment(input_partitions=1)
    stack.produce(events(0, 100))
    first = stack.start_worker()
    first.wait_ready()
    stack.wait_drained()
    assert first.stop() == 0

    changelog = stack.topic("first-seen-changelog")
    # For a time, somebody has let Kafka delete what is old.
    set_policy(stack, changelog, "compact,delete")
    delete_before(stack, *((*place, end - 1) for place, end in ends(stack, changelog).items()))
    set_policy(stack, changelog, "compact")
    second = stack.start_worker("b")
    second.wait_ready()
    stack.wait_drained()

    assert second.metric("firstseen_changelogs_incomplete_total", table="first-seen") == 12
    assert second.metric("firstseen_changelogs_incomplete_total", table="quota") == 0
    assert {each["kafka.topic"] for each in lines(second, "changelog_incomplete")} == {changelog}
    assert lines(second, "records_lost") == []
    assert second.metric("firstseen_records_lost_total") == 0


def test_an_input_that_is_made_anew_with_fewer_partitions_ends_a_worker_and_the_next_goes_on(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    """aiokafka would try for ever to commit the partition that is gone, and nothing else."""
    stack = small_deployment(kafka_deployment, tmp_path, 3, TEST_MISSING_SECONDS="3")
    worker = stack.start_worker(module=FAILING)
    worker.wait_ready()
    stack.produce(events(0, 30))
    wait_for(lambda: all_committed(stack))

    admin = AdminClient(client_config(stack.broker.bootstrap))
    admin.delete_topics([stack.input])[stack.input].result(SECONDS)
    code = worker.process.wait(60)
    worker.was_stopped = True
    (failed,) = lines(worker, "worker_failed")
    assert (code, failed["error.code"]) == (4, "topology")
    assert f"topic {stack.input} has had no partition" in str(failed["error.message"])

    create_topic(stack.broker.bootstrap, stack.input, partitions=1)
    stack.produce(events(30, 50))
    stack.start_worker("b").wait_ready()
    wait_for(lambda: hosts(stack) == {f"h{n}" for n in range(50)})
