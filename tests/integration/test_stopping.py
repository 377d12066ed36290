"""Workers that are told to stop, and workers that cannot go on, on Apache Kafka.

SIGTERM ends a worker within ten seconds whatever its brokers do; what is not acknowledged by then
is not committed, and the next worker does it again. The exit code says whether all was committed.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
from confluent_kafka.admin import AdminClient

from tests.brokers import ApacheKafka
from tests.clients import SECONDS, client_config, create_topic
from tests.deployment import Deployment, NewDeployment, WorkerProcess, wait_for
from tests.events import encode, library_event
from tests.failing_worker import FAILING
from tests.group_offsets import all_committed, committed
from tests.small_topics import small_deployment

STOP_SECONDS = 10.0


def programs(first: int, end: int) -> list[bytes]:
    return [
        encode(library_event(number=n, executable=f"{n}.exe", host=f"h{n % 7}"))
        for n in range(first, end)
    ]


def told(stack: Deployment) -> Counter[int]:
    """Return how many alert ids there are of each program, within the quota and beyond it."""
    ids = {
        (m.key(), json.loads(m.value())["process"]["name"])
        for name in ("alerts", "overflow")
        for m in stack.read(name)
        if ("firstseen.kind", b"summary") not in (m.headers() or ())
    }
    return Counter(int(name.removesuffix(".exe")) for _, name in ids)


def once_each(end: int) -> Counter[int]:
    return Counter(range(end))


def wait_for_what_stays_unacknowledged(worker: WorkerProcess) -> None:
    """Wait until outputs wait at five looks in a row: what is on its way arrives in between."""
    looks: list[tuple[float, float]] = []

    def stays() -> bool:
        looked_at = worker.metric("firstseen_loop_heartbeat_timestamp_seconds")
        if not looks or looks[-1][0] != looked_at:
            looks.append((looked_at, worker.metric("firstseen_outbox_records")))
        return len(looks) >= 5 and all(records > 0 for _, records in looks[-5:])

    wait_for(stays)


def stop(worker: WorkerProcess) -> int:
    """Send SIGTERM; return the exit code of a process that is gone in time."""
    began = time.monotonic()
    code = worker.stop()
    assert time.monotonic() - began < STOP_SECONDS, worker.tail()
    return code


def stopped_in_a_backlog(stack: Deployment, journal: Path) -> tuple[Counter[str], Counter[str]]:
    """Stop a worker at its work; return with how many records it began, and how many it committed.

    Both by topic, of all stages.
    """
    worker = stack.start_worker(module=FAILING, TEST_JOURNAL=str(journal))
    worker.wait_ready()
    wait_for(lambda: worker.metric("firstseen_alerts_overflow_total") > 100)

    assert stop(worker) == 0

    begun = Counter(line.partition(" ")[0] for line in journal.read_text().splitlines())
    done: Counter[str] = Counter()
    for (topic, _), offset in committed(stack).items():
        done[topic] += max(0, offset)
    return begun, done


def finish(stack: Deployment) -> None:
    """Have another worker do what is left."""
    stack.start_worker().wait_ready()
    wait_for(lambda: all_committed(stack))


def test_a_stop_in_the_middle_of_a_backlog_commits_what_was_done(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = small_deployment(
        kafka_deployment, tmp_path, 2, TEST_BUNDLE_RECORDS="50", TEST_BUNDLE_DELAY="0.05"
    )
    stack.produce(programs(0, 6_000))

    begun, done = stopped_in_a_backlog(stack, tmp_path / "journal")

    assert 100 < done[stack.input] < 6_000
    assert begun[stack.input] == done[stack.input]
    finish(stack)
    assert once_each(6_000) == told(stack)


def test_a_stop_waits_for_all_bundles_that_are_begun_and_begins_no_others(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    """Many bundles wait for each stage, so they are handed over together."""
    stack = small_deployment(
        kafka_deployment, tmp_path, 2, TEST_BUNDLE_RECORDS="20", TEST_BUNDLE_DELAY="0.2"
    )
    stack.produce(programs(0, 2_000))

    begun, done = stopped_in_a_backlog(stack, tmp_path / "journal")

    for topic in (stack.input, stack.topic("observations"), stack.topic("new_terms")):
        assert 100 < done[topic] < 2_000
        assert begun[topic] == done[topic]
    finish(stack)
    assert once_each(2_000) == told(stack)


def test_a_stop_before_the_worker_has_joined_its_group_is_a_stop(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    worker = small_deployment(kafka_deployment, tmp_path, 2).start_worker()
    wait_for(lambda: worker.get("/healthz")[0] == 200)
    assert worker.get("/readyz")[0] == 503

    assert stop(worker) == 0


def test_whoever_asks_again_and_again_gets_the_same_stop(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    """Also between the last commit and the end of the process, when nothing of asyncio is left."""
    worker = small_deployment(kafka_deployment, tmp_path, 2).start_worker()
    worker.wait_ready()

    begun = time.monotonic()
    while worker.process.poll() is None and time.monotonic() - begun < STOP_SECONDS:
        for number in (signal.SIGTERM, signal.SIGINT):
            worker.process.send_signal(number)
        time.sleep(0.001)
    assert worker.process.poll() == 0
    assert '"worker_stopped"' in worker.tail()


def test_a_stop_while_the_broker_has_never_answered_is_a_stop_in_time(
    own_kafka: ApacheKafka, own_deployment: NewDeployment, tmp_path: Path
):
    stack = small_deployment(own_deployment, tmp_path, 2)
    own_kafka.pause()
    try:
        worker = stack.start_worker()
        asking = psutil.Process(worker.process.pid)
        port = own_kafka.nodes[1].port
        wait_for(lambda: any(c.raddr and c.raddr.port == port for c in asking.net_connections()))

        assert stop(worker) == 0
    finally:
        own_kafka.resume()


def test_a_stop_while_rules_cannot_be_held_is_a_stop_in_time(
    own_kafka: ApacheKafka, own_deployment: NewDeployment, tmp_path: Path
):
    stack = small_deployment(own_deployment, tmp_path, 2, FIRSTSEEN_STATE__BACKFILL="auto")
    reached = tmp_path / "reached"
    worker = stack.start_worker(module=FAILING, TEST_HOLD=str(reached))
    wait_for(reached.exists)
    own_kafka.pause()
    try:
        reached.unlink()
        time.sleep(1.0)  # it asks the broker by now

        assert worker.get("/healthz")[0] == 200
        assert worker.get("/readyz")[0] == 503
        assert stop(worker) == 0
    finally:
        own_kafka.resume()


def test_a_stop_while_the_alerts_cannot_be_written_leaves_them_to_the_next_worker(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = small_deployment(kafka_deployment, tmp_path, 2)
    worker = stack.start_worker()
    worker.wait_ready()
    stack.produce(programs(0, 10))
    wait_for(lambda: all_committed(stack))
    before = told(stack)
    admin = AdminClient(client_config(stack.broker.bootstrap))
    admin.delete_topics([stack.topic("alerts")])[stack.topic("alerts")].result(SECONDS)
    stack.produce(programs(10, 20))
    wait_for_what_stays_unacknowledged(worker)

    assert stop(worker) == 5
    assert "not acknowledged" in worker.tail()

    create_topic(stack.broker.bootstrap, stack.topic("alerts"), partitions=2)
    stack.start_worker().wait_ready()
    wait_for(lambda: all_committed(stack))
    assert once_each(20) == before + told(stack)


def test_a_stop_while_the_broker_hangs_ends_in_time_and_loses_nothing(
    own_kafka: ApacheKafka, own_deployment: NewDeployment, tmp_path: Path
):
    stack = small_deployment(
        own_deployment, tmp_path, 2, TEST_BUNDLE_RECORDS="50", TEST_BUNDLE_DELAY="0.05"
    )
    stack.produce(programs(0, 3_000))
    worker = stack.start_worker(module=FAILING)
    worker.wait_ready()
    wait_for(lambda: worker.metric("firstseen_alerts_overflow_total") > 100)
    own_kafka.pause()
    try:
        assert stop(worker) == 5
    finally:
        own_kafka.resume()

    stack.start_worker().wait_ready()
    wait_for(lambda: all_committed(stack))
    assert once_each(3_000) == told(stack)


def test_a_worker_without_a_broker_is_not_ready_until_it_is_back_and_stops_when_told(
    own_kafka: ApacheKafka, own_deployment: NewDeployment, tmp_path: Path
):
    stack = small_deployment(own_deployment, tmp_path, 2, TEST_STALL_SECONDS="3")
    worker = stack.start_worker(module=FAILING)
    worker.wait_ready()
    stack.produce(programs(0, 10))
    wait_for(lambda: all_committed(stack))

    own_kafka.kill()
    wait_for(lambda: worker.get("/readyz")[0] == 503)
    assert "no broker answered" in worker.get("/readyz")[1]
    assert worker.get("/healthz")[0] == 200  # a restart would not bring the broker back
    own_kafka.restart()
    worker.wait_ready()
    stack.produce(programs(10, 20))
    wait_for(lambda: all_committed(stack))
    own_kafka.kill()
    assert stop(worker) in {0, 5}
    own_kafka.restart()

    assert once_each(20) == told(stack)


def test_a_worker_that_makes_no_progress_says_so_and_ends_with_its_own_code(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = small_deployment(kafka_deployment, tmp_path, 2)
    worker = stack.start_worker(module=FAILING, TEST_STALL_SECONDS="6", TEST_ACKNOWLEDGE="nothing")
    worker.wait_ready()
    stack.produce(programs(0, 10))
    wait_for(lambda: worker.get("/readyz")[0] == 503)
    reason = worker.get("/readyz")[1]

    assert "no commit" in reason
    assert worker.process.wait(60.0) == 5, worker.tail()
    assert {} == {tp: n for tp, n in committed(stack).items() if tp[0] == stack.input}
    stack.start_worker().wait_ready()
    wait_for(lambda: all_committed(stack))
    assert once_each(10) == told(stack)


def test_a_worker_whose_consumer_hangs_ends(kafka_deployment: NewDeployment, tmp_path: Path):
    stack = small_deployment(kafka_deployment, tmp_path, 2)
    worker = stack.start_worker(module=FAILING, TEST_STALL_SECONDS="4", TEST_TAKE_OVER="never ends")
    worker.wait_ready()
    stack.produce(programs(0, 10))

    assert worker.process.wait(60.0) == 5, worker.tail()

    assert "StallError" in worker.tail()
    stack.start_worker().wait_ready()
    wait_for(lambda: all_committed(stack))
    assert once_each(10) == told(stack)
