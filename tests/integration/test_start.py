"""A worker that cannot start says in one line what to do, and with which exit code."""

import subprocess

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from pipeline.embedded.process import free_ports, wait_until
from tests.clients import client_config, create_topic
from tests.deployment import Deployment, NewDeployment, error_lines
from tests.events import encode, library_event


def start(stack: Deployment, **settings: str) -> subprocess.CompletedProcess[str]:
    stack.settings.update(settings)
    return stack.command("worker", "--set", "web.port=0", check=False)


def test_a_misspelt_setting_is_refused_with_the_right_name(new_deployment: NewDeployment):
    done = start(new_deployment(), FIRSTSEEN_KAFKA__BOOTSTRAP_SERVER="localhost:9092")

    assert done.returncode == 3
    assert "FIRSTSEEN_KAFKA__BOOTSTRAP_SERVERS" in done.stderr
    assert len(error_lines(done)) == len(done.stderr.splitlines()) == 1


def test_a_broker_that_is_not_there_is_named_with_its_setting(new_deployment: NewDeployment):
    (port,) = free_ports(1)
    done = start(new_deployment(), FIRSTSEEN_KAFKA__BOOTSTRAP_SERVERS=f"127.0.0.1:{port}")

    assert done.returncode == 4
    assert f"127.0.0.1:{port}" in done.stderr
    assert "kafka.bootstrap_servers" in done.stderr
    assert len(error_lines(done)) == 1


def test_a_missing_topic_is_named_with_the_command_that_makes_it(
    new_deployment: NewDeployment,
):
    stack = new_deployment()
    delete_topic(stack, stack.topic("observations"))
    done = start(stack)

    assert done.returncode == 4
    assert stack.topic("observations") in done.stderr
    assert "firstseen topics apply" in done.stderr
    assert len(error_lines(done)) == 1


def test_a_wrong_partition_count_is_told_with_both_numbers(new_deployment: NewDeployment):
    stack = new_deployment()
    changelog = f"{stack.prefix}-quota-changelog"
    delete_topic(stack, changelog)
    create_topic(
        stack.broker.bootstrap, changelog, partitions=3, configs={"cleanup.policy": "compact"}
    )
    done = start(stack)

    assert done.returncode == 4
    assert changelog in done.stderr
    assert " 3 " in done.stderr
    assert " 12" in done.stderr
    assert len(error_lines(done)) == 1


def test_rules_that_do_not_load_keep_the_worker_from_starting(
    new_deployment: NewDeployment, tmp_path_factory: pytest.TempPathFactory
):
    rule = tmp_path_factory.mktemp("rules") / "broken.toml"
    rule.write_text('[rule]\nname = "x"\n')
    done = start(new_deployment(), FIRSTSEEN_RULES__PATHS=str(rule))

    assert done.returncode == 4
    assert "broken.toml" in done.stderr


def test_a_group_that_does_not_take_it_ends_a_worker_and_is_named(kafka_deployment: NewDeployment):
    """Else it would wait for ever, alive and without a word."""
    stack = kafka_deployment()
    foreign = Consumer(
        {
            **client_config(stack.broker.bootstrap),
            "group.id": stack.prefix,
            "partition.assignment.strategy": "range",
        }
    )
    foreign.subscribe([stack.input])
    assert wait_until(lambda: foreign.poll(0.1) is None and bool(foreign.assignment()), seconds=60)
    worker = stack.start_worker()

    def ended() -> bool:
        foreign.poll(0.1)  # so that it stays a member
        return worker.process.poll() is not None

    assert wait_until(ended, seconds=60)
    foreign.close()

    assert worker.process.returncode == 4, worker.tail()
    assert f"the consumer group {stack.prefix} does not take this worker" in worker.tail()


def test_two_workers_under_one_instance_id_say_so(kafka_deployment: NewDeployment):
    """Else they would throw each other out for as long as they run, and nobody could see why."""
    stack = kafka_deployment(settings={"FIRSTSEEN_KAFKA__GROUP_INSTANCE_ID": "worker-0"})
    first = stack.start_worker("a")
    first.wait_ready()
    second = stack.start_worker("b")

    assert wait_until(lambda: "membership_taken" in first.tail(), seconds=60), second.tail()


def test_two_busy_workers_under_one_instance_id_say_so(kafka_deployment: NewDeployment):
    """Their commits tell them that they are no members any more, before a heartbeat does."""
    stack = kafka_deployment(
        settings={
            "FIRSTSEEN_KAFKA__GROUP_INSTANCE_ID": "worker-0",
            "FIRSTSEEN_KAFKA__REQUEST_TIMEOUT": "90s",
            "FIRSTSEEN_KAFKA__SESSION_TIMEOUT": "60s",
            "FIRSTSEEN_KAFKA__HEARTBEAT_INTERVAL": "20s",
        }
    )
    first = stack.start_worker("a")
    first.wait_ready()
    second = stack.start_worker("b")

    def told() -> bool:
        stack.produce([encode(library_event())])
        return any("membership_taken" in worker.log.read_text() for worker in (first, second))

    assert wait_until(told, seconds=60), second.tail()


def test_a_worker_with_the_state_folder_of_another_one_does_not_start(
    kafka_deployment: NewDeployment,
):
    """Else both run, until a partition moves between them."""
    stack = kafka_deployment()
    first = stack.start_worker("a")
    first.wait_ready()
    second = stack.start_worker("a")

    assert second.process.wait(60) == 3, second.tail()
    assert '"error.code":"state_in_use"' in second.tail()
    assert first.ready()

    first.kill()
    third = stack.start_worker("a")
    third.wait_ready()
    assert third.stop() == 0


def delete_topic(stack: Deployment, name: str) -> None:
    admin = AdminClient(client_config(stack.broker.bootstrap))
    admin.delete_topics([name])[name].result(30)
