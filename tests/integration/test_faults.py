"""What stock Faust gets wrong, and every gap a crash can fall into, on Apache Kafka.

Each test fails when the code of `pipeline.stream` or `pipeline.engine` that it is about is taken
away. The workers are processes; where a test has to reach into one, the app runs in the test.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from faust.types import TP

from pipeline.errors import DeliveryError
from pipeline.stream.transport import bundled_records, filtered_records
from tests.clients import SECONDS, Sent, client_config, create_topic, read_all
from tests.damage import cut_manifests, spoil_blocks
from tests.deployment import Deployment, NewDeployment, WorkerProcess, wait_for
from tests.events import START, encode, library_event
from tests.failing_worker import FAILING, KILLS, MAY_REPEAT, RAISES, RAISES_BELOW, STAGES
from tests.group_offsets import all_committed, committed, ends
from tests.programs import executables, program, told
from tests.running_app import HoldingProducer, app_of, running, until
from tests.small_topics import small_deployment, small_topics

NO_TIMED_COMMIT = {
    "FIRSTSEEN_STREAM__COMMIT_INTERVAL": "10m",
    "FIRSTSEEN_KAFKA__SESSION_TIMEOUT": "11m",
    "FIRSTSEEN_KAFKA__REQUEST_TIMEOUT": "12m",
    "FIRSTSEEN_KAFKA__MAX_POLL_INTERVAL": "12m",
}
"""No test lives to see such a commit: the only commits are those of a revocation or a stop."""

EVERY_MATCH_TO_ITS_AGENT = {"FIRSTSEEN_STATE__FORWARDED_ENTRIES": "0"}
"""Else a sighting ends in the consumer's thread, and no journal has it, where a later sighting of
its term is read before it: from another partition, while there is a backlog."""


# -- what workers do


class Journal:
    """What the lives of the workers have handled: see `tests.failing_worker`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.file.touch()

    def handled(self) -> Counter[tuple[str, int, int]]:
        lines = [line.split() for line in self.file.read_text().splitlines()]
        return Counter(
            (topic, int(partition), int(offset)) for topic, partition, offset, _ in lines
        )

    def twice(self) -> list[tuple[str, int, int]]:
        """Return the records that a stage handled more than once."""
        return sorted(
            record
            for record, times in self.handled().items()
            if times > 1 and not record[0].endswith("-changelog")
        )


@contextmanager
def flow_of_events(stack: Deployment, *, a_second: int) -> Iterator[list[str]]:
    """Produce events steadily; yields the list of what was produced, which goes on growing.

    Two of three are by a program not seen before, the third is an older program again.
    """
    produced: list[str] = []
    enough = threading.Event()

    def produce_events() -> None:
        producer = Producer({**client_config(stack.broker.bootstrap), "enable.idempotence": True})
        for number in count():
            name = f"{number - 300 if number % 3 == 2 and number > 300 else number}.exe"
            producer.produce(stack.input, program(number, name, minutes=number // 60))
            produced.append(name)
            producer.poll(0)
            if enough.wait(1 / a_second):
                break
        assert producer.flush(SECONDS) == 0

    thread = threading.Thread(target=produce_events)
    thread.start()
    try:
        yield produced
    finally:
        enough.set()
        thread.join()


# -- 1. from table recovery to the streams


def test_restarts_without_local_state_amid_a_flow_lose_nothing_and_do_nothing_twice(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    journal = Journal(tmp_path / "journal")
    stack = kafka_deployment(
        settings={
            **small_topics(tmp_path / "topics", 4),
            "TEST_JOURNAL": str(journal.file),
            **EVERY_MATCH_TO_ITS_AGENT,
        }
    )
    with flow_of_events(stack, a_second=100) as produced:
        for _ in range(3):
            worker = stack.start_worker(module=FAILING)
            worker.wait_ready()
            wait_for(lambda w=worker: w.metric("firstseen_records_consumed_total") > 150)
            assert worker.stop() == 0
            shutil.rmtree(stack.directory / "a" / "state")
    stack.start_worker(module=FAILING).wait_ready()
    wait_for(lambda: all_committed(stack))

    handled = journal.handled()
    assert len(produced) == sum(n for (topic, _, _), n in handled.items() if topic == stack.input)
    assert [] == journal.twice()
    assert Counter(set(produced)) == told(stack)


def test_state_that_cannot_be_written_in_recovery_stops_the_worker_and_is_complete_after(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=small_topics(tmp_path / "topics", 1))
    worker = stack.start_worker()
    worker.wait_ready()
    stack.produce(program(n, f"{n}.exe") for n in range(20))
    wait_for(lambda: all_committed(stack))
    assert worker.stop() == 0
    shutil.rmtree(stack.directory / "a" / "state")

    failing = stack.start_worker(module=FAILING, TEST_DISK="full")
    failing.was_stopped = True
    assert failing.process.wait(60.0) == 5
    assert "No space left on device" in failing.tail()

    stack.start_worker().wait_ready()
    stack.produce(program(100 + n, f"{n}.exe", minutes=10) for n in range(21))
    wait_for(lambda: all_committed(stack))
    assert Counter(f"{n}.exe" for n in range(21)) == told(stack)


# -- 2. what may be committed


def test_a_commit_stops_at_an_unacknowledged_bundle_and_goes_on_past_it_later(
    kafka_deployment: NewDeployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for module in (bundled_records, filtered_records):
        monkeypatch.setattr(module, "MAX_BUNDLE_RECORDS", 2)
    stack = small_deployment(kafka_deployment, tmp_path, 1)
    stack.produce(program(n, f"{n}.exe") for n in range(20))

    async def check() -> None:
        app = app_of(stack, **NO_TIMED_COMMIT)
        held: list[Any] = []
        acknowledge = app.consumer.acknowledge
        source = TP(stack.input, 0)

        def all_but_one(message: Any) -> None:
            if message.tp == source and message.offset == 6:
                held.append(message)
            else:
                acknowledge(message)

        app.consumer.acknowledge = all_but_one
        async with running(app):
            await until(lambda: app.consumer.tracker.in_flight(source) == 1 and bool(held))
            await until(lambda: len(stack.read("alerts")) == 20)
            await app.consumer.commit()
            before = committed(stack)[source]
            acknowledge(held.pop())
            await app.consumer.commit()
            after = committed(stack)[source]
        assert (before, after) == (6, 20)

    asyncio.run(check())


def test_control_records_and_aborted_transactions_do_not_stop_the_commit(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=small_topics(tmp_path / "topics", 1), input_partitions=3)
    names = [f"{n}.exe" for n in range(12)]
    producer = transactional_producer(stack)
    for n, name in enumerate(names[:8]):
        transaction(producer, stack, Sent(program(n, name), partition=n % 2), commit=True)
        transaction(producer, stack, Sent(program(n, "aborted"), partition=n % 2), commit=False)
    # Partition 2 has nothing that a reader of committed records would ever see.
    transaction(producer, stack, Sent(program(0, "aborted"), partition=2), commit=False)
    worker = stack.start_worker()
    worker.wait_ready()
    wait_for(lambda: all_committed(stack), seconds=20.0)

    # Now while nothing else comes: the tail is aborted, on each partition.
    for n in range(3):
        transaction(producer, stack, Sent(program(n, "aborted"), partition=n), commit=False)
    wait_for(lambda: all_committed(stack), seconds=20.0)
    for n, name in enumerate(names[8:]):
        transaction(producer, stack, Sent(program(n + 8, name), partition=n % 3), commit=True)
    wait_for(lambda: len(stack.read("alerts")) == len(names))
    wait_for(lambda: all_committed(stack), seconds=20.0)

    assert worker.stop() == 0
    assert sorted(names) == sorted(executables(stack.read("alerts")))


def test_records_behind_a_transaction_that_nobody_ends_are_told(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    """They are no lag: nothing can be read behind the transaction's first record."""
    stack = small_deployment(kafka_deployment, tmp_path, 1)
    producer = transactional_producer(stack)
    producer.begin_transaction()
    producer.produce(stack.input, value=program(0, "hidden.exe"))
    producer.flush(SECONDS)
    stack.produce([program(n, f"{n}.exe") for n in range(1, 6)])
    worker = stack.start_worker()
    worker.wait_ready()

    def hidden() -> float:
        return worker.metric("firstseen_consumer_open_transaction_seconds", topic=stack.input)

    wait_for(lambda: hidden() > 2)
    assert worker.metric("firstseen_consumer_lag_records", topic=stack.input) == 0
    assert worker.metric("firstseen_ready") == 1
    producer.abort_transaction(SECONDS)
    wait_for(lambda: len(stack.read("alerts")) == 5)
    wait_for(lambda: hidden() == 0)

    assert worker.stop() == 0


def test_a_changelog_that_ends_with_a_transaction_is_read_to_its_end(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    """By a worker that has its folder, and by one that fills it anew."""
    stack = small_deployment(kafka_deployment, tmp_path, 1)
    stack.produce([program(n, f"{n}.exe") for n in range(5)])
    worker = stack.start_worker("a")
    worker.wait_ready()
    stack.wait_drained()
    assert worker.stop() == 0
    producer = transactional_producer(stack)

    for number, folder in enumerate(("a", "b")):
        producer.begin_transaction()
        producer.produce(stack.topic("first-seen-changelog"), key=b"gone", value=None)
        producer.commit_transaction(SECONDS)
        stack.produce([program(9, "3.exe"), program(10, f"new-{number}.exe")])
        worker = stack.start_worker(folder)
        worker.wait_ready()
        stack.wait_drained()
        assert worker.stop() == 0

    names = [*(f"{n}.exe" for n in range(5)), "new-0.exe", "new-1.exe"]
    assert sorted(executables(stack.read("alerts"))) == sorted(names)


def transactional_producer(stack: Deployment) -> Producer:
    config = {**client_config(stack.broker.bootstrap), "transactional.id": f"{stack.prefix}-tx"}
    producer = Producer(config)
    producer.init_transactions(SECONDS)
    return producer


def transaction(producer: Producer, stack: Deployment, record: Sent, *, commit: bool) -> None:
    producer.begin_transaction()
    producer.produce(stack.input, value=record.value, partition=record.partition)
    producer.flush(SECONDS)
    if commit:
        producer.commit_transaction(SECONDS)
    else:
        producer.abort_transaction(SECONDS)


def test_holes_that_compaction_left_do_not_stop_the_commit(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=small_topics(tmp_path / "topics", 1))
    stack.input = f"{stack.prefix}-compacted"
    configs = {
        "cleanup.policy": "compact",
        "segment.bytes": str(1 << 20),
        "segment.ms": "200",
        "min.cleanable.dirty.ratio": "0.01",
        "max.compaction.lag.ms": "500",
        "delete.retention.ms": "0",
    }
    create_topic(stack.broker.bootstrap, stack.input, configs=configs)
    for round_ in range(3):
        stack.produce(
            Sent(program(10 * round_ + n, f"{n}.exe"), key=str(n).encode()) for n in range(10)
        )
    wait_for(lambda: compacts(stack), seconds=60.0)
    worker = stack.start_worker()
    worker.wait_ready()
    wait_for(lambda: len(stack.read("alerts")) >= 10)
    wait_for(lambda: all_committed(stack), seconds=20.0)

    assert sorted(f"{n}.exe" for n in range(10)) == sorted(executables(stack.read("alerts")))


def compacts(stack: Deployment) -> bool:
    """Whether older records are gone; a record of another key rolls the segment, so they can be."""
    stack.produce([Sent(program(999, "0.exe"), key=b"0")])
    return len(read_all(stack.broker.bootstrap, stack.input)) < 20


# -- 3. an exception in an agent


def test_a_record_on_which_a_stage_raised_is_handled_after_the_restart(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = small_deployment(kafka_deployment, tmp_path, 1)
    topics = [stack.input, stack.topic("observations"), stack.topic("new_terms")]
    stack.produce(program(n, f"{n}.exe") for n in range(10))
    armed = tmp_path / "armed"
    armed.touch()
    for failpoint, topic in zip(RAISES, topics, strict=True):
        worker = stack.start_worker(
            module=FAILING,
            TEST_FAILPOINT=failpoint,
            TEST_FAILPOINT_ARM=str(armed),
        )
        assert worker.process.wait(60.0) == 5, worker.tail()
        # The fourth record of a bundle raised: nothing of the bundle is committed.
        assert committed(stack).get((topic, 0), 0) == 0
    stack.start_worker().wait_ready()
    wait_for(lambda: all_committed(stack))

    assert sorted(f"{n}.exe" for n in range(10)) == sorted(executables(stack.read("alerts")))


@pytest.mark.parametrize("failpoint", RAISES_BELOW)
def test_a_worker_in_which_anything_else_raised_ends_and_the_next_one_goes_on(
    kafka_deployment: NewDeployment, tmp_path: Path, failpoint: str
):
    stack = small_deployment(kafka_deployment, tmp_path, 1)
    armed = tmp_path / "armed"
    worker = stack.start_worker(
        module=FAILING, TEST_FAILPOINT=failpoint, TEST_FAILPOINT_ARM=str(armed)
    )
    worker.wait_ready()
    armed.touch()
    stack.produce(program(n, f"{n}.exe") for n in range(10))

    assert worker.process.wait(60.0) == 5, worker.tail()

    assert "ZeroDivisionError" in worker.tail()
    stack.start_worker().wait_ready()
    wait_for(lambda: all_committed(stack))
    # What had left before is repeated.
    assert {f"{n}.exe" for n in range(10)} == set(executables(stack.read("alerts")))


# -- 4. produced records


def test_a_commit_waits_for_the_acknowledgement_of_what_was_produced(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = small_deployment(kafka_deployment, tmp_path, 1)
    stack.produce(program(n, f"{n}.exe") for n in range(5))

    async def check() -> None:
        app = app_of(stack, **NO_TIMED_COMMIT)
        app.transport.options = replace(app.transport.options, settle_seconds=0.2)
        producer = HoldingProducer(app, [stack.topic("observations")])
        source = TP(stack.input, 0)
        async with running(app):
            await until(lambda: app.consumer.tracker.committable(source) == 5)
            await app.consumer.commit()
            assert (stack.input, 0) not in committed(stack)

            await producer.release()
            await app.consumer.commit()
            assert committed(stack)[source] == 5

    asyncio.run(check())


def test_a_commit_takes_up_what_was_acknowledged_while_another_one_was_under_way(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = small_deployment(kafka_deployment, tmp_path, 1)
    stack.produce(program(n, f"{n}.exe") for n in range(5))

    async def check() -> None:
        app = app_of(stack, **NO_TIMED_COMMIT)
        producer = HoldingProducer(app, [stack.topic("observations")])
        source = TP(stack.input, 0)
        async with running(app):
            await until(lambda: app.consumer.tracker.committable(source) == 5)
            under_way = asyncio.create_task(app.consumer.commit())
            stack.produce(program(n, f"{n}.exe") for n in range(5, 10))
            await until(lambda: app.consumer.tracker.committable(source) == 10)
            last = asyncio.create_task(app.consumer.commit())
            await asyncio.sleep(0)
            await producer.release()
            await asyncio.gather(under_way, last)
            assert committed(stack)[source] == 10

    asyncio.run(check())


def test_what_was_done_is_committed_though_the_flow_is_closed_during_a_fetch(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = small_deployment(kafka_deployment, tmp_path, 1)

    async def check() -> None:
        app = app_of(stack, **NO_TIMED_COMMIT)
        source = TP(stack.input, 0)
        armed, watched = threading.Event(), threading.Event()
        async with running(app):
            thread, loop = app.consumer._thread, asyncio.get_running_loop()
            fetch = thread._fetch_records

            async def close_the_flow(*args: Any, **options: Any) -> Any:
                watched.set()
                records = await fetch(*args, **options)
                if armed.is_set() and any(tp.topic == stack.input for tp in records):
                    loop.call_soon_threadsafe(app.consumer.stop_flow)
                return records

            thread._fetch_records = close_the_flow
            await until(watched.is_set)
            stack.produce(program(n, f"{n}.exe") for n in range(5))
            await until(lambda: app.consumer.tracker.committable(source) == 5)
            armed.set()
            stack.produce(program(n, f"{n}.exe") for n in range(5, 10))
            await until(lambda: not app.consumer.flow_active)
            # Time for a seek, which must not come.
            await asyncio.sleep(0.5)
            await app.consumer.commit()
            assert committed(stack)[source] == 5

    asyncio.run(check())


def test_a_failed_delivery_shuts_the_gate_for_good(kafka_deployment: NewDeployment, tmp_path: Path):
    stack = small_deployment(kafka_deployment, tmp_path, 1)
    stack.produce(program(n, f"{n}.exe") for n in range(5))

    async def check() -> None:
        app = app_of(stack, **NO_TIMED_COMMIT)
        producer = HoldingProducer(app, [stack.topic("observations")])
        async with running(app):
            await until(lambda: app.consumer.tracker.committable(TP(stack.input, 0)) == 5)
            await producer.fail(TimeoutError("the broker did not answer"))
            await app.consumer.commit()
            assert isinstance(app.failure, DeliveryError)
            assert app.failure.exit_code == 5
        assert (stack.input, 0) not in committed(stack)

    asyncio.run(check())


def test_a_record_that_the_broker_refuses_stops_the_worker_and_is_sent_after_the_restart(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = small_deployment(kafka_deployment, tmp_path, 1)
    worker = stack.start_worker()
    worker.wait_ready()
    observations = stack.topic("observations")
    set_topic(stack, observations, "max.message.bytes", "500")
    stack.produce(program(n, f"{n}.exe") for n in range(5))

    assert worker.process.wait(60.0) == 5, worker.tail()
    assert (stack.input, 0) not in committed(stack)

    set_topic(stack, observations, "max.message.bytes", "2162688")
    stack.start_worker().wait_ready()
    wait_for(lambda: all_committed(stack))
    assert sorted(f"{n}.exe" for n in range(5)) == sorted(executables(stack.read("alerts")))


def set_topic(stack: Deployment, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient(client_config(stack.broker.bootstrap))
    admin.incremental_alter_configs([resource])[resource].result(SECONDS)


def test_a_decision_of_the_quota_is_in_the_changelog_before_its_alert_is_sent(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = small_deployment(kafka_deployment, tmp_path, 1)
    stack.produce(program(n, f"{n}.exe") for n in range(5))

    async def check() -> None:
        app = app_of(stack, **NO_TIMED_COMMIT)
        producer = HoldingProducer(app, [f"{stack.prefix}-quota-changelog"])
        source, decided = TP(stack.input, 0), TP(stack.topic("new_terms"), 0)
        async with running(app):
            await until(lambda: bool(producer.held))
            await until(lambda: app.consumer.tracker.committable(source) == 5)
            # Time for an alert that would not wait: what was sent before it is acknowledged.
            await asyncio.gather(*(written for written, _ in producer.held))
            assert app.consumer.tracker.in_flight(decided) > 0
            assert [] == stack.read("alerts")

            await producer.release()
            await until(lambda: len(stack.read("alerts")) == 5)
            await until(lambda: app.consumer.tracker.in_flight(decided) == 0)

    asyncio.run(check())


# -- 5. what waits in memory


LARGE_BYTES = 200_000


def large(stage: str) -> Iterator[bytes]:
    """Yield events of which a few fill the room of a topic; the last ones end at this stage.

    So nothing comes out of the stage any more that would wake a fetch.
    """
    for number in range(40):
        known = stage != "quota" and number >= 20
        # A repeat reaches the first-seen stage if it comes later than the granularity.
        at = START + timedelta(minutes=2 * number if stage == "first seen" else 0)
        name = f"{0 if known else number}.exe"
        event = library_event(number=number, executable=name, at=at)
        event["process"]["command_line"] = "x" * LARGE_BYTES
        yield encode(event)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_behind_slows_reading_and_loses_nothing(
    kafka_deployment: NewDeployment, tmp_path: Path, stage: str
):
    waiting = tmp_path / "waiting"
    room, per_bundle = 1 << 20, 2
    stack = kafka_deployment(
        settings={
            **small_topics(tmp_path / "topics", 1),
            "FIRSTSEEN_STREAM__MAX_WAITING_BYTES": str(room),
            "TEST_WAITING": str(waiting),
            "TEST_BUNDLE_RECORDS": str(per_bundle),
            "TEST_BUNDLE_DELAY": "0.1",
            "TEST_DELAYED_STAGE": stage,
            # Whoever waits for partitions that stay silent does not live to see its end.
            "TEST_FETCH_SECONDS": "600",
        },
        input_partitions=1,
    )
    worker = stack.start_worker(module=FAILING)
    worker.wait_ready()
    stack.produce(large(stage))
    wait_for(lambda: all_committed(stack))

    new = 40 if stage == "quota" else 20
    assert Counter(f"{n}.exe" for n in range(new)) == told(stack)
    assert worker.metric("firstseen_records_processed_total", outcome="matched") == 40
    topics = dict(zip(STAGES, ("events", "observations", "new_terms"), strict=True))
    most = most_waiting(waiting)[stack.topic(topics[stage])]
    # A poll takes four bundles, and begins while there is room.
    assert room <= most <= room + 4 * per_bundle * (LARGE_BYTES + 10_000)


def most_waiting(file: Path) -> Counter[str]:
    """Return how many bytes of each topic have waited at most."""
    most: Counter[str] = Counter()
    for line in file.read_text().splitlines():
        topic, size = line.split()
        most[topic] = max(most[topic], int(size))
    return most


# -- 6. revocation, and the end of a worker


def test_joins_and_leaves_without_a_timed_commit_do_nothing_twice(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    journal = Journal(tmp_path / "journal")
    settings = {
        **small_topics(tmp_path / "topics", 4),
        "TEST_JOURNAL": str(journal.file),
        **NO_TIMED_COMMIT,
        **EVERY_MATCH_TO_ITS_AGENT,
    }
    stack = kafka_deployment(settings=settings)
    first = stack.start_worker("a", module=FAILING)
    first.wait_ready()
    with flow_of_events(stack, a_second=100) as produced:
        for _ in range(2):
            second = stack.start_worker("b", module=FAILING)
            second.wait_ready()
            wait_for(lambda w=second: w.metric("firstseen_records_consumed_total") > 50)
            assert second.stop() == 0
            before = len(produced)
            wait_for(lambda b=before: len(produced) > b + 50)
    wait_for(lambda: told(stack).keys() == set(produced))
    assert first.stop() == 0

    handled = journal.handled()
    assert len(produced) == sum(n for (topic, _, _), n in handled.items() if topic == stack.input)
    assert [] == journal.twice()
    assert Counter(set(produced)) == told(stack)


def test_a_term_is_told_though_its_first_sighting_was_dropped_and_others_relied_on_it(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    """What is covered by a sighting is dropped at once; the sighting waits, and may be dropped."""
    revocations, blocked = tmp_path / "revocations", tmp_path / "blocked"
    revocations.touch()
    blocked.touch()
    stack = kafka_deployment(
        settings={
            **small_topics(tmp_path / "topics", 4),
            "TEST_REVOCATIONS": str(revocations),
            "TEST_BUNDLE_RECORDS": "2",
            "TEST_BUNDLE_DELAY": "0.5",
            "TEST_BUNDLE_BLOCKED": str(blocked),
            "TEST_DELAYED_STAGE": "match",
        }
    )
    first = stack.start_worker("a", module=FAILING)
    first.wait_ready()
    stack.produce(program(number, f"{number // 5}.exe") for number in range(200))
    wait_for(lambda: first.metric("firstseen_observations_total", result="covered") > 100)

    second = stack.start_worker("b", module=FAILING)
    wait_for(lambda: any(int(waiting) > 0 for waiting in revocations.read_text().split()))
    blocked.unlink()
    second.wait_ready()
    wait_for(lambda: all_committed(stack))

    assert Counter(f"{term}.exe" for term in range(40)) == told(stack)


def test_a_worker_told_to_stop_commits_everything_and_ends_within_ten_seconds(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings={**small_topics(tmp_path / "topics", 4), **NO_TIMED_COMMIT})
    worker = stack.start_worker()
    worker.wait_ready()
    stack.produce(program(n, f"{n}.exe") for n in range(50))
    wait_for(lambda: len(stack.read("alerts")) == 50)
    assert {} == committed(stack)

    began = time.monotonic()
    assert worker.stop() == 0

    assert time.monotonic() - began < 10.0
    assert all_committed(stack)


def test_a_worker_that_ends_hands_its_partitions_over_before_it_closes_its_tables(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=small_topics(tmp_path / "topics", 4))
    close = tmp_path / "close"
    first = stack.start_worker("a", module=FAILING, TEST_CLOSE=str(close))
    second = stack.start_worker("b")
    for worker in (first, second):
        worker.wait_ready()
    wait_for(lambda: shared(first) and shared(second))
    stack.produce(program(n, f"{n}.exe") for n in range(40))
    wait_for(lambda: all_committed(stack))

    first.process.terminate()
    first.was_stopped = True
    wait_for(lambda: assigned(second) == 6 + 2 * 4 and second.ready(), seconds=30.0)
    assert first.process.poll() is None
    close.touch()
    assert first.process.wait(60.0) == 0

    stack.produce(program(100 + n, f"{n}.exe", minutes=10) for n in range(41))
    wait_for(lambda: all_committed(stack))
    assert Counter(f"{n}.exe" for n in range(41)) == told(stack)


# -- 7. kill -9


@dataclass
class Told:
    """The alerts of one deployment by id, as often as they stand in the topic."""

    values: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    executables: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def of(cls, stack: Deployment) -> Told:
        found = cls()
        for message in stack.read("alerts"):
            alert_id = message.key().decode()
            found.values[alert_id].append(message.value())
            found.executables[executables([message])[0]].add(alert_id)
        return found

    def repeated(self) -> set[str]:
        """Return the executables whose alert stands in the topic more than once."""
        return {name for name, ids in self.executables.items() for i in ids if self.times(i) > 1}

    def times(self, alert_id: str) -> int:
        return len(self.values[alert_id])


TERMS = "ABCD"


def chunk(gap: int) -> list[bytes]:
    """Return four new terms, the first of which comes again before the third."""
    order = (("A", 0), ("B", 1), ("A", 10), ("C", 11), ("D", 12))
    return [
        program(100 * gap + n, f"{gap}-{term}.exe", minutes=60 * gap + minute)
        for n, (term, minute) in enumerate(order)
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("forgetful", [False, True], ids=["state_kept", "state_deleted"])
def test_a_kill_in_any_gap_loses_nothing_invents_nothing_and_repeats_only_what_it_must(
    kafka_deployment: NewDeployment, tmp_path: Path, forgetful: bool
):
    """One life for each gap: it finishes what the last one left, then dies in its own gap.

    The next one finds the local state, or has only the changelogs.
    """
    settings = small_topics(tmp_path / "topics", 1)
    stack = kafka_deployment(settings=settings, input_partitions=1)
    may_repeat: set[str] = set()
    for gap, failpoint in enumerate(KILLS):
        armed = stack.directory / f"armed-{gap}"
        worker = stack.start_worker(
            module=FAILING,
            TEST_FAILPOINT=failpoint,
            TEST_FAILPOINT_ARM=str(armed),
            TEST_BUNDLE_RECORDS="3",
            # Long enough for a whole chunk to be sent and none of it acknowledged.
            FIRSTSEEN_KAFKA__LINGER="200ms",
            # Short, since the group waits for the dead.
            FIRSTSEEN_KAFKA__SESSION_TIMEOUT="3s",
        )
        worker.wait_ready()
        check_told(stack, gap, may_repeat)
        armed.touch()
        stack.produce(chunk(gap))
        assert worker.process.wait(60.0) == -signal.SIGKILL, worker.tail()
        if forgetful:
            shutil.rmtree(stack.directory / "a" / "state")
        if failpoint in MAY_REPEAT:
            may_repeat |= {f"{gap}-{term}.exe" for term in TERMS}
    stack.start_worker().wait_ready()
    check_told(stack, len(KILLS), may_repeat)

    # And no life has forgotten what an earlier one had seen.
    before = len(stack.read("alerts"))
    stack.produce(program(9000 + gap, f"{gap}-A.exe", minutes=900) for gap in range(len(KILLS)))
    wait_for(lambda: all_committed(stack))
    assert len(stack.read("alerts")) == before


def check_told(stack: Deployment, gaps: int, may_repeat: set[str]) -> None:
    """Check the alerts of all gaps so far, once everything is handled."""
    wait_for(lambda: all_committed(stack))
    alerts = Told.of(stack)
    assert {f"{gap}-{term}.exe" for gap in range(gaps) for term in TERMS} == set(alerts.executables)
    assert [] == [name for name, ids in alerts.executables.items() if len(ids) > 1]
    assert alerts.repeated() <= may_repeat
    assert [] == [alert_id for alert_id, values in alerts.values.items() if len(set(values)) > 1]


# -- 8. what listens


def test_a_worker_listens_on_its_own_page_only_and_serves_no_rows(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=small_topics(tmp_path / "topics", 1))
    worker = stack.start_worker()
    worker.wait_ready()
    stack.produce(program(n, f"{n}.exe") for n in range(3))
    wait_for(lambda: len(stack.read("alerts")) == 3)

    process = psutil.Process(worker.process.pid)
    connections = process.net_connections(kind="inet")
    listening = {c.laddr for c in connections if c.status == psutil.CONN_LISTEN}
    assert {("127.0.0.1", worker.port)} == listening
    assert [] == process.children()
    pages = ["/tables/", "/tables/first-seen/", "/table/first-seen/x", "/router/", "/", "/graph"]
    assert {404} == {worker.get(page)[0] for page in pages}


# -- 9. defaults


def test_a_worker_with_all_partitions_makes_its_folders_and_stays_small(
    kafka_deployment: NewDeployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Stock Faust would reserve 48 GiB of block cache for these 24 databases."""
    stack = kafka_deployment()
    monkeypatch.chdir(tmp_path)  # the default folder is a relative one, too
    worker = stack.start_worker(FIRSTSEEN_STATE__DIRECTORY="not/there/yet")
    worker.wait_ready()
    stack.produce(program(n, f"{n}.exe") for n in range(90))
    wait_for(lambda: len(stack.read("alerts")) == 90)
    wait_for(lambda: assigned(worker) == 6 + 12 + 12)

    assert 24 == len(list(Path("not/there/yet").rglob("*.db")))
    assert psutil.Process(worker.process.pid).memory_info().rss < 400 << 20


def test_the_producer_is_idempotent_and_the_tables_share_one_cache(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=small_topics(tmp_path / "topics", 3))
    stack.produce(program(n, f"{n}.exe") for n in range(30))

    async def check() -> None:
        app = app_of(stack)
        async with running(app):
            await until(lambda: len(stack.read("alerts")) == 30)
            producer = app._aiokafka_producer()
            assert producer._sender._acks == -1
            assert producer._txn_manager is not None
            assert producer._txn_manager.transactional_id is None

            opened = [
                table.data.database(number)
                for table in app.state_tables.values()
                for number in range(3)
            ]
            for database in opened:
                database.flush()
            list(opened[0].items())
            usage = {d.property_int_value("rocksdb.block-cache-usage") for d in opened}
            capacity = {d.property_int_value("rocksdb.block-cache-capacity") for d in opened}
            assert {64 << 20} == capacity
            assert len(usage) == 1
            assert usage != {0}

    asyncio.run(check())


def test_a_damaged_table_is_set_aside_and_rebuilt_from_its_changelog(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=small_topics(tmp_path / "topics", 1))
    worker = stack.start_worker()
    worker.wait_ready()
    stack.produce(program(n, f"{n}.exe") for n in range(30))
    wait_for(lambda: len(stack.read("alerts")) == 30)
    assert worker.stop() == 0
    cut_manifests(stack.directory / "a" / "state")

    again = stack.start_worker()
    again.wait_ready()
    stack.produce(program(100 + n, f"{n}.exe", minutes=10) for n in range(31))
    wait_for(lambda: all_committed(stack))

    assert Counter(f"{n}.exe" for n in range(31)) == told(stack)
    assert again.metric("firstseen_errors_total", code="state_damaged") == 2
    assert 2 == len(list((stack.directory / "a" / "state").rglob("*.damaged-*")))


def test_damage_that_is_met_while_reading_stops_the_worker_and_the_next_start_rebuilds(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=small_topics(tmp_path / "topics", 1))
    worker = stack.start_worker()
    worker.wait_ready()
    # Enough of them for several blocks: opening a table reads one of them.
    stack.produce(program(n, f"{n}.exe") for n in range(600))
    wait_for(lambda: all_committed(stack) and told(stack).total() == 600)
    assert worker.stop() == 0
    spoil_blocks(stack.directory / "a" / "state" / "first-seen-0.db")

    stopped = stack.start_worker()
    stopped.wait_ready()
    stack.produce(program(1000 + n, f"{n}.exe", minutes=10) for n in range(601))
    assert stopped.process.wait(60.0) == 5, stopped.tail()
    assert "Start again" in stopped.tail()
    stack.start_worker().wait_ready()
    wait_for(lambda: all_committed(stack))

    assert Counter(f"{n}.exe" for n in range(601)) == told(stack)


def test_a_standby_goes_on_with_the_state_it_has(kafka_deployment: NewDeployment, tmp_path: Path):
    partitions = 4
    stack = kafka_deployment(
        settings={
            **small_topics(tmp_path / "topics", partitions),
            "FIRSTSEEN_STATE__STANDBY_REPLICAS": "1",
            "FIRSTSEEN_KAFKA__SESSION_TIMEOUT": "3s",
        }
    )
    journal = Journal(tmp_path / "journal-b")
    first = stack.start_worker("a")
    second = stack.start_worker("b", module=FAILING, TEST_JOURNAL=str(journal.file))
    for worker in (first, second):
        worker.wait_ready()
    wait_for(lambda: shared(first) and shared(second))
    stack.produce(program(n, f"{n}.exe") for n in range(80))
    wait_for(lambda: all_committed(stack))
    # What b does not write itself it has to read from the changelog, each record once or twice.
    wait_for(lambda: has_copied(stack, journal))
    copied = changelog_reads(journal)
    first.kill()
    wait_for(lambda: assigned(second) == 6 + 2 * partitions and second.ready())
    stack.produce(program(100 + n, f"{n}.exe", minutes=10) for n in range(81))
    wait_for(lambda: all_committed(stack))

    assert Counter(f"{n}.exe" for n in range(81)) == told(stack)
    # At most the last record of each partition is read again: the state was there already.
    assert changelog_reads(journal) - copied <= 2 * partitions


def assigned(worker: WorkerProcess) -> float:
    return worker.metric("firstseen_assigned_partitions")


def shared(worker: WorkerProcess) -> bool:
    return worker.ready() and assigned(worker) == 7


def changelog_reads(journal: Journal) -> int:
    return sum(n for (topic, _, _), n in journal.handled().items() if topic.endswith("-changelog"))


def has_copied(stack: Deployment, journal: Journal) -> bool:
    """Whether it has read all of each changelog of which another worker judges the source."""
    sources = {
        f"{stack.prefix}-first-seen-changelog": f"{stack.prefix}-observations",
        f"{stack.prefix}-quota-changelog": f"{stack.prefix}-new-terms",
    }
    judged = {(topic, partition) for topic, partition, _ in journal.handled()}
    filled = ends(stack, *sources.values()).keys()
    last = {
        (topic, partition, end - 1)
        for (topic, partition), end in ends(stack, *sources).items()
        # Without a source record, each worker may have written what little there is.
        if (sources[topic], partition) in filled - judged
    }
    return bool(last) and last <= set(journal.handled())
