"""A topic between the stages that is deleted and created again, while the table of it stays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.embedded.process import wait_until
from tests.clients import SECONDS, client_config
from tests.deployment import Deployment, NewDeployment, WorkerProcess, wait_for
from tests.events import encode, library_event
from tests.failing_worker import FAILING
from tests.group_offsets import committed, ends
from tests.small_topics import small_deployment


def events(begin: int, end: int) -> list[bytes]:
    return [encode(library_event(number=n, host=f"h{n}")) for n in range(begin, end)]


def hosts(stack: Deployment) -> list[str]:
    return sorted(alert["host"]["id"] for alert in stack.alerts())


def work_off(stack: Deployment, begin: int, end: int) -> WorkerProcess:
    """Let a worker judge one event of each of these hosts, and return it."""
    stack.produce(events(begin, end))
    worker = stack.start_worker()
    worker.wait_ready()
    stack.wait_drained()
    return worker


def create_anew(stack: Deployment, *topics: str) -> None:
    admin = AdminClient(client_config(stack.broker.bootstrap))
    for topic, answer in admin.delete_topics(list(topics)).items():
        answer.result(SECONDS)
        wait_for(lambda topic=topic: topic not in admin.list_topics(timeout=SECONDS).topics)
    assert wait_until(
        lambda: stack.command("topics", "apply", check=False).returncode == 0, seconds=60
    )


def why_it_ended(worker: WorkerProcess) -> Mapping[str, str]:
    assert worker.process.wait(60) == 5, worker.tail()
    worker.was_stopped = True
    logged = [json.loads(line) for line in worker.log.read_text().splitlines()]
    (failed,) = [line for line in logged if line.get("event.action") == "worker_failed"]
    return failed


@pytest.mark.parametrize("name", ["observations", "new_terms"])
def test_a_worker_does_not_judge_by_offsets_of_the_topic_that_was_there_before(
    kafka_deployment: NewDeployment, tmp_path: Path, name: str
):
    """With its own folder, and with one that it fills from the changelog."""
    stack = small_deployment(kafka_deployment, tmp_path, 1)
    assert work_off(stack, 0, 10).stop() == 0

    create_anew(stack, stack.topic(name))
    stack.produce(events(5, 15))
    own, empty = [why_it_ended(stack.start_worker(folder)) for folder in ("a", "b")]

    assert own["error.code"] == empty["error.code"] == "source_changed"
    assert f"topic {stack.topic(name)} was created anew" in own["error.message"]
    assert hosts(stack) == sorted(f"h{n}" for n in range(10))


def test_a_worker_that_runs_stops_when_it_finds_a_topic_created_anew(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    """Else it goes on where it was in the old one, and skips what the new one holds before that."""
    stack = small_deployment(kafka_deployment, tmp_path, 1, TEST_SOURCE_SECONDS="1")
    stack.produce(events(0, 10))
    worker = stack.start_worker(module=FAILING)
    worker.wait_ready()
    stack.wait_drained()

    create_anew(stack, stack.topic("observations"))

    assert why_it_ended(worker)["error.code"] == "source_changed"


def test_with_its_changelog_created_anew_a_topic_is_as_good_as_the_one_before(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    """As docs/reference/topics.md says."""
    stack = small_deployment(kafka_deployment, tmp_path, 1)
    assert work_off(stack, 0, 10).stop() == 0
    create_anew(stack, stack.topic("observations"))
    why_it_ended(stack.start_worker("b"))

    seen = tmp_path / "seen.ndjson"
    seen.write_text(stack.command("history", "export").stdout)
    create_anew(stack, stack.topic("observations"), stack.topic("first-seen-changelog"))
    stack.command("history", "import", str(seen))
    stack.produce(events(5, 15))
    worker = stack.start_worker("c")
    worker.wait_ready()
    stack.wait_drained()

    assert worker.stop() == 0
    assert hosts(stack) == sorted(f"h{n}" for n in range(15))


def test_a_topic_whose_records_are_deleted_keeps_its_offsets_and_its_table(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = small_deployment(kafka_deployment, tmp_path, 1)
    assert work_off(stack, 0, 10).stop() == 0

    topics = [stack.topic("observations"), stack.topic("new_terms")]
    admin = AdminClient(client_config(stack.broker.bootstrap))
    emptied = [TopicPartition(*place, end) for place, end in ends(stack, *topics).items()]
    for answer in admin.delete_records(emptied, request_timeout=SECONDS).values():
        answer.result()
    worker = work_off(stack, 5, 15)

    assert hosts(stack) == sorted(f"h{n}" for n in range(15))
    assert worker.metric("firstseen_sightings_total", result="known") == 5
    assert worker.metric("firstseen_sightings_total", result="repeated") == 0
    assert committed(stack)[stack.topic("observations"), 0] == 20
