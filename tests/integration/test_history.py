"""The history commands against running workers, on a real wire."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.embedded.process import wait_until
from tests.clients import Sent, produce
from tests.deployment import Deployment, NewDeployment, wait_for
from tests.events import START
from tests.programs import program, told
from tests.rules import BUILTIN_RULE, rule_text
from tests.small_topics import small_topics

BROAD = "any-load"


def exported(stack: Deployment, *arguments: str) -> list[dict[str, Any]]:
    done = stack.command("history", "export", *arguments)
    return [json.loads(line) for line in done.stdout.splitlines()]


def events_file(directory: Path, events: list[bytes], name: str = "past.ndjson") -> str:
    file = directory / name
    file.write_bytes(b"".join(event + b"\n" for event in events))
    return str(file)


def applied(stack: Deployment, result: str) -> float:
    return stack.metric("firstseen_history_records_total", result=result)


def test_what_was_imported_is_known_to_running_workers_also_without_their_disks(
    new_deployment: NewDeployment, tmp_path: Path
):
    """All partitions: each record has to meet the partition of its observations."""
    stack = new_deployment()
    worker = stack.start_worker()
    worker.wait_ready()
    past = events_file(tmp_path, [program(n, f"{n}.exe", hours=-5) for n in range(60)])

    dry = stack.command("history", "import", "--format", "events", "--dry-run", "--json", past)
    done = stack.command("history", "import", "--format", "events", "--json", past)
    wait_for(lambda: applied(stack, "learned") == 60, seconds=30)
    stack.produce(program(100 + n, f"{n}.exe") for n in range(70))
    stack.wait_drained()

    assert {f"{n}.exe": 1 for n in range(60, 70)} == told(stack)
    summary = {"read": 60, "learned": 60, "rules": {BUILTIN_RULE: 60}, "unused": {}, "skipped": {}}
    assert summary | {"dry_run": True} == json.loads(dry.stdout)
    assert summary | {"dry_run": False} == json.loads(done.stdout)

    worker.kill()
    shutil.rmtree(stack.directory / "a" / "state")
    stack.start_worker().wait_ready()
    stack.produce(program(200 + n, f"{n}.exe", hours=1) for n in range(71))
    stack.wait_drained()
    assert {f"{n}.exe": 1 for n in range(60, 71)} == told(stack)


def test_an_export_moves_to_another_deployment(kafka_deployment: NewDeployment, tmp_path: Path):
    settings = small_topics(tmp_path / "topics", 3)
    old = kafka_deployment(settings=settings)
    old.start_worker().wait_ready()
    old.produce(program(n, f"{n}.exe", hours=n / 10) for n in range(40))
    old.produce(program(100 + n, f"{n}.exe", hours=20) for n in range(10))
    old.wait_drained()
    rows = exported(old)
    file = tmp_path / "seen.ndjson"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    old.stop_workers()

    new = kafka_deployment(settings=settings)
    new.start_worker().wait_ready()
    new.command("history", "import", str(file))
    wait_for(lambda: applied(new, "learned") == 40, seconds=30)
    new.produce(program(200 + n, f"{n}.exe", hours=21) for n in range(41))
    new.wait_drained()

    assert {"40.exe": 1} == told(new)
    assert Counter({1: 30, 2: 10}) == Counter(row["count"] for row in rows)
    assert 41 == len(exported(new))
    assert {row["rule_id"] for row in rows} == {BUILTIN_RULE}


def test_an_export_ends_though_its_topic_is_written_all_the_while(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    """Every fetch then has records, and none finds that there are no more."""
    stack = kafka_deployment(settings=small_topics(tmp_path / "topics", 1), input_partitions=1)
    topic, done = stack.topic("first-seen-changelog"), threading.Event()
    produce(stack.broker.bootstrap, topic, [Sent(None, key=b"gone")])

    def removals() -> Iterator[Sent]:
        while not done.wait(0.005):
            yield Sent(None, key=b"gone")

    writing = threading.Thread(target=produce, args=(stack.broker.bootstrap, topic, removals()))
    writing.start()
    try:
        assert exported(stack) == []
    finally:
        done.set()
        writing.join()


def test_alerts_of_kibana_and_answers_of_elasticsearch_teach_their_tuples(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=small_topics(tmp_path / "topics", 3))
    stack.start_worker().wait_ready()
    stack.produce([program(0, "seen.exe")])
    stack.wait_drained()
    (row,) = exported(stack)
    assert sorted(row["terms"]) == ["S-1-5-21-1", "h1", "seen.exe"]

    def like(name: str) -> list[str]:
        return [name if term == "seen.exe" else term for term in row["terms"]]

    alerts = tmp_path / "alerts.ndjson"
    alert = {
        "kibana.alert.rule.rule_id": BUILTIN_RULE,
        "kibana.alert.new_terms": like("alerted.exe"),
        "kibana.alert.original_time": "2026-03-01T08:00:00Z",
    }
    alerts.write_text(json.dumps({"_source": alert}) + "\n")
    answer = tmp_path / "answer.json"
    bucket = {
        "key": like("counted.exe"),
        "doc_count": 12,
        "first_seen": {"value": 1_772_300_000_000},
        "last_seen": {"value": 1_772_400_000_000},
    }
    answer.write_text(json.dumps({"aggregations": {"t": {"buckets": [bucket]}}}, indent=1))

    stack.command("history", "import", "--format", "alerts", str(alerts))
    stack.command(
        "history", "import", "--format", "aggregation", "--rule", BUILTIN_RULE, str(answer)
    )
    wait_for(lambda: applied(stack, "learned") == 2, seconds=30)
    names = ("alerted.exe", "counted.exe", "new.exe")
    stack.produce(program(10 + n, name, hours=1) for n, name in enumerate(names))
    stack.wait_drained()

    assert {"seen.exe": 1, "new.exe": 1} == told(stack)


def test_a_term_and_a_rule_are_forgotten_while_workers_run(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=small_topics(tmp_path / "topics", 3))
    for name in ("a", "b"):
        stack.start_worker(name).wait_ready()
    stack.produce(program(n, f"{n}.exe") for n in range(20))
    stack.wait_drained()
    terms = next(row["terms"] for row in exported(stack) if "7.exe" in row["terms"])

    stack.command("history", "forget", BUILTIN_RULE, *terms)
    wait_for(lambda: applied(stack, "forgotten") == 1, seconds=30)
    assert 19 == len(exported(stack))
    stack.produce(program(100 + n, f"{n}.exe", hours=1) for n in range(20))
    stack.wait_drained()
    assert {f"{n}.exe": 1 + (n == 7) for n in range(20)} == told(stack)

    dry = stack.command("history", "forget", BUILTIN_RULE, "--dry-run", "--json")
    unasked = stack.command("history", "forget", BUILTIN_RULE, check=False)
    assert (2, True) == (unasked.returncode, "use --yes" in unasked.stderr)
    stack.command("history", "forget", BUILTIN_RULE, "--yes")
    wait_for(lambda: applied(stack, "forgotten") == 1 + 3, seconds=30)
    assert [] == exported(stack)
    stack.produce(program(200 + n, f"{n}.exe", hours=2) for n in range(20))
    stack.wait_drained()
    assert {f"{n}.exe": 2 + (n == 7) for n in range(20)} == told(stack)
    assert 20 == json.loads(dry.stdout)["terms"]
    assert 1 == stack.command("history", "forget", "no-such-rule", "--yes", check=False).returncode
    part = stack.command("history", "forget", BUILTIN_RULE, "h1", check=False)
    assert (part.returncode, f"{BUILTIN_RULE} remembers no such terms" in part.stderr) == (1, True)


def test_a_rule_that_learns_tells_nothing_until_its_time_is_over_whoever_works_for_it(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    settings = {
        **small_topics(tmp_path / "topics", 3),
        "FIRSTSEEN_STATE__LEARNING": "7d",
    }
    stack = kafka_deployment(settings=settings, input_partitions=1)
    worker = stack.start_worker()
    worker.wait_ready()
    stack.produce(program(n, f"{n}.exe", hours=n) for n in range(20))
    stack.wait_drained()
    assert 20 == worker.metric("firstseen_alerts_overflow_total", reason="learning")
    worker.kill()
    shutil.rmtree(stack.directory / "a" / "state")

    # A restart without its disk, then a rebalance.
    for name in ("a", "b"):
        stack.start_worker(name).wait_ready()
    stack.produce(program(100 + n, f"{n}.exe", hours=100) for n in range(22))
    stack.wait_drained()
    assert stack.workers[1].stop() == 0
    stack.produce([program(200, "after.exe", hours=8 * 24), program(201, "5.exe", hours=8 * 24)])
    stack.wait_drained()

    learned = stack.read("overflow")
    assert 22 == len(learned)
    assert {("firstseen.kind", b"learning")} == {message.headers()[2] for message in learned}
    # Observations of three partitions meet at the quota: any of the first twenty, an hour apart,
    # may come first and begin the period. Which one it was holds over the restart.
    begins = {START + timedelta(hours=hours) for hours in range(20)}
    ends = {json.loads(message.value())["detection"]["learning"]["until"] for message in learned}
    assert 1 == len(ends)
    assert datetime.fromisoformat(ends.pop()) - timedelta(days=7) in begins
    assert ["after.exe"] == [a["process"]["executable"] for a in stack.alerts()]


def rule_file(directory: Path, query: str) -> Path:
    file = directory / "rule.toml"
    file.write_text(rule_text(BROAD, query))
    return file


def test_the_history_of_an_old_query_is_dropped_and_its_rows_leave_the_changelog(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    rule = rule_file(tmp_path, "event.category:library")
    settings = {**small_topics(tmp_path / "topics", 3), "FIRSTSEEN_RULES__PATHS": str(rule)}
    stack = kafka_deployment(settings=settings)
    worker = stack.start_worker()
    worker.wait_ready()
    stack.produce(program(n, f"{n}.exe") for n in range(300))
    stack.wait_drained()
    assert worker.stop() == 0

    rule_file(tmp_path, "event.category:library and event.action:load")
    again = stack.start_worker()
    again.wait_ready()
    stack.produce(program(1_000 + n, f"{n}.exe", hours=1) for n in range(5))
    stack.wait_drained()
    listed = json.loads(stack.command("history", "list", "--json").stdout)
    assert {("old", 300), ("current", 5)} == {(e["current"], e["terms"]) for e in listed}

    # Tuned rules need not begin with nothing: what the old query knew goes into the new history.
    kept = tmp_path / "kept.ndjson"
    kept.write_text(stack.command("history", "export").stdout)
    stack.command("history", "import", "--into-current", str(kept))
    stack.command("history", "forget", BROAD, "--old", "--yes")

    assert wait_until(
        lambda: again.metric("firstseen_state_removed_total", reason="forgotten") == 300,
        seconds=60,
    )
    listed = json.loads(stack.command("history", "list", "--json").stdout)
    assert [("current", 300)] == [(e["current"], e["terms"]) for e in listed]
    wait_for(lambda: stack.rows_in_changelog() == 300, seconds=30)
    before = told(stack)
    stack.produce(program(2_000 + n, f"{n}.exe", hours=2) for n in range(301))
    stack.wait_drained()
    assert {"300.exe": 1} == told(stack) - before
