"""A rule learns from the retained log while workers run, on Apache Kafka."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from pipeline.cli.loading import read_rules
from pipeline.embedded.process import wait_until
from pipeline.history.checkpoint import backfill_group
from pipeline.kql import FieldTable
from tests.clients import SECONDS, client_config
from tests.deployment import Deployment, NewDeployment
from tests.events import encode, library_event
from tests.group_offsets import Offsets, committed
from tests.small_topics import small_topics

pytestmark = pytest.mark.kafka

BROAD = "any-load"
OTHER = "winlogon-load"
RULES = {BROAD: "event.category:library", OTHER: "dll.name:winlogon.dll"}
HELD = "firstseen_history_held_partitions"


def program(number: int, executable: str, *, hours: float = 0.0, dll: str = "plain.dll") -> bytes:
    at = datetime.now(UTC) + timedelta(hours=hours)
    return encode(library_event(number=number, executable=executable, at=at, dll=dll))


def told(stack: Deployment, rule_id: str) -> Counter[str]:
    """How often each program was told as new by a rule, within the quota and beyond it."""
    alerts = [json.loads(m.value()) for m in (*stack.read("alerts"), *stack.read("overflow"))]
    return Counter(
        term["value"]
        for alert in alerts
        if alert["rule"]["id"] == rule_id
        for term in alert["detection"].get("new_terms", ())
        if term["field"] == "process.executable"
    )


def rule_file(directory: Path, rule_id: str, query: str) -> Path:
    directory.mkdir(exist_ok=True)
    file = directory / f"{rule_id}.toml"
    file.write_text(RULE_TEXT.format(rule_id=rule_id, query=query))
    return file


@contextmanager
def started(stack: Deployment, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command and do not wait for it; it is gone after the block, whatever happened."""
    command = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "history", "backfill", "--rule", BROAD, *arguments],
        env={**os.environ, **stack.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield command
    finally:
        command.kill()
        command.communicate()


def backfilled(stack: Deployment, *arguments: str, rule_id: str = BROAD) -> dict[str, Any]:
    done = stack.command("history", "backfill", "--rule", rule_id, "--json", *arguments)
    return json.loads(done.stdout)


def metric(stack: Deployment, name: str, **labels: str) -> float:
    return sum(worker.metric(name, **labels) for worker in stack.workers if not worker.was_stopped)


def test_a_rule_that_is_added_knows_what_the_log_held_and_tells_what_comes_later(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=two_rules(tmp_path))
    worker = stack.start_worker(FIRSTSEEN_RULES__PATHS=only(tmp_path, OTHER))
    worker.wait_ready()
    stack.produce(program(n, f"{n}.exe", hours=-1) for n in range(50))
    stack.wait_drained()
    assert worker.stop() == 0

    summary = backfilled(stack, "--since", "14d")
    stack.start_worker().wait_ready()
    later = [program(100 + n, f"{n}.exe") for n in range(60)]
    stack.produce([*later, program(200, "o.exe", dll="winlogon.dll")])
    stack.wait_drained()

    assert {f"{n}.exe": 1 for n in range(50, 60)} | {"o.exe": 1} == told(stack, BROAD)
    assert {"o.exe": 1} == told(stack, OTHER)
    assert (True, 50, 50, 0) == tuple(summary[k] for k in ("done", "read", "learned", "told"))
    again = stack.command("history", "backfill", "--rule", BROAD)
    assert "nothing to do" in again.stderr
    assert backfilled(stack)["was_done"]


def test_other_rules_go_on_and_what_comes_meanwhile_is_told_at_the_end(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=two_rules(tmp_path))
    stack.produce(program(n, f"{n}.exe", hours=-1) for n in range(300))
    for name in ("a", "b"):
        stack.start_worker(name, FIRSTSEEN_RULES__PATHS=only(tmp_path, OTHER)).wait_ready()
    stack.wait_drained()
    for worker in stack.workers:
        assert worker.stop() == 0
    for name in ("a", "b"):
        stack.start_worker(name).wait_ready()

    with started(stack, "--json", "--max-rate", "20") as command:
        assert wait_until(lambda: metric(stack, HELD, rule_id=BROAD) == 3, seconds=60)
        command.send_signal(signal.SIGSTOP)
        known = [program(1_000 + n, f"{n}.exe") for n in range(300)]
        fresh = [program(2_000 + n, f"{n}.exe") for n in range(300, 320)]
        stack.produce([*fresh, *known, program(3_000, "o.exe", dll="winlogon.dll")])
        assert wait_until(lambda: told(stack, OTHER) == {"o.exe": 1}, seconds=60)
        stack.wait_drained()
        put_off = metric(stack, "firstseen_sightings_held_total", rule_id=BROAD)
        meanwhile = told(stack, BROAD)
        command.send_signal(signal.SIGCONT)
        summary = finished(command)
    stack.wait_drained()
    expected = {f"{n}.exe": 1 for n in range(300, 320)} | {"o.exe": 1}
    assert expected == told(stack, BROAD)
    stack.produce([program(4_000, "after.exe"), program(4_001, "7.exe"), program(4_002, "310.exe")])
    stack.wait_drained()

    assert expected | {"after.exe": 1} == told(stack, BROAD)
    assert {} == meanwhile
    assert 321 == put_off
    assert (300, 321) == (summary["learned"], summary["told"])
    assert 0 == metric(stack, HELD, rule_id=BROAD)


def test_a_command_and_a_worker_that_are_killed_go_on_where_they_were(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    stack = kafka_deployment(settings=two_rules(tmp_path), input_partitions=2)
    stack.produce(program(n, f"{n}.exe", hours=-1) for n in range(600))
    stack.start_worker("a", FIRSTSEEN_RULES__PATHS=only(tmp_path, OTHER)).wait_ready()
    stack.wait_drained()
    assert stack.workers[0].stop() == 0
    worker = stack.start_worker("a")
    worker.wait_ready()

    with started(stack, "--max-rate", "50"):
        assert wait_until(lambda: 100 < sum(checkpoint(stack).values()) < 600, seconds=60)
        stack.produce([program(1_000, "live.exe"), program(1_001, "599.exe")])
        assert wait_until(lambda: metric(stack, HELD, rule_id=BROAD) == 3, seconds=60)
    worker.kill()
    shutil.rmtree(stack.directory / "a" / "state")
    kept = sum(checkpoint(stack).values())
    stack.start_worker("a").wait_ready()
    stack.produce([program(1_002, "also.exe"), program(1_003, "3.exe")])
    stack.wait_drained()
    before = told(stack, BROAD)
    summary = backfilled(stack)
    stack.wait_drained()

    assert {} == before
    assert summary["resumed"]
    assert 600 - kept + 4 == summary["read"]
    assert {"live.exe": 1, "also.exe": 1} == told(stack, BROAD)
    stack.produce([program(2_000 + n, f"{n}.exe") for n in range(601)])
    stack.wait_drained()
    assert {"live.exe": 1, "also.exe": 1, "600.exe": 1} == told(stack, BROAD)


def test_new_rules_and_changed_queries_learn_by_themselves(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    settings = {**two_rules(tmp_path), "FIRSTSEEN_STATE__BACKFILL": "auto"}
    stack = kafka_deployment(settings=settings)
    stack.produce(program(n, f"{n}.exe", hours=-1) for n in range(300))
    workers = [stack.start_worker(name) for name in ("a", "b")]
    for worker in workers:
        worker.wait_ready()
    assert wait_until(lambda: phase(stack) == "done", seconds=60)
    stack.wait_drained()
    at_first = told(stack, BROAD)
    stack.produce(program(1_000 + n, f"{n}.exe") for n in range(310))
    stack.wait_drained()

    assert {} == at_first
    expected = {f"{n}.exe": 1 for n in range(300, 310)}
    assert expected == told(stack, BROAD)
    for worker in workers:
        assert worker.stop() == 0

    rule_file(tmp_path / "rules", BROAD, "event.category:library and event.action:load")
    workers = [stack.start_worker(name) for name in ("a", "b")]
    workers[0].wait_ready()
    workers[1].kill()
    stack.start_worker("b").wait_ready()
    assert wait_until(lambda: phase(stack) == "done", seconds=60)
    stack.produce(program(2_000 + n, f"{n}.exe") for n in range(320))
    stack.wait_drained()
    expected |= {f"{n}.exe": 1 for n in range(310, 320)}
    assert expected == told(stack, BROAD)
    for worker in stack.workers:
        if not worker.was_stopped:
            assert worker.stop() == 0

    again = stack.start_worker("a")
    again.wait_ready()
    stack.produce([program(3_000, "320.exe"), program(3_001, "5.exe")])
    stack.wait_drained()
    assert expected | {"320.exe": 1} == told(stack, BROAD)
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

    worker = stack.start_worker(FIRSTSEEN_STATE__BACKFILL="auto")
    worker.wait_ready()
    assert wait_until(lambda: phase(stack) == "done", seconds=60)
    stack.wait_drained()

    assert {f"{n}.exe": 1 for n in range(50)} == told(stack, BROAD)


def test_what_cannot_be_done_is_said(kafka_deployment: NewDeployment, tmp_path: Path):
    stack = kafka_deployment(settings=two_rules(tmp_path))
    stack.produce([program(0, "0.exe")])

    unknown = stack.command("history", "backfill", "--rule", "no-such-rule", check=False)
    short = stack.command("history", "backfill", "--rule", BROAD, "--since", "30d")

    assert 4 == unknown.returncode
    assert "no-such-rule is not among the rules" in unknown.stderr
    assert "the inputs retain nothing from before" in short.stderr


def two_rules(directory: Path) -> dict[str, str]:
    """Write a broad rule and a narrow one; return the settings of a small deployment with both."""
    for rule_id, query in RULES.items():
        rule_file(directory / "rules", rule_id, query)
    return {
        **small_topics(directory / "topics", 3),
        "FIRSTSEEN_RULES__PATHS": str(directory / "rules"),
    }


def only(directory: Path, rule_id: str) -> str:
    return str(directory / "rules" / f"{rule_id}.toml")


def finished(command: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = command.communicate(timeout=120)
    assert command.returncode == 0, err
    return json.loads(out)


def group_of_broad(stack: Deployment) -> str:
    rules = read_rules([Path(stack.settings["FIRSTSEEN_RULES__PATHS"])], FieldTable.builtin())
    broad = rules.ruleset.get(BROAD)
    assert broad is not None
    return backfill_group(stack.prefix, broad.history_id)


def checkpoint(stack: Deployment) -> Offsets:
    """What the backfill of the broad rule has committed."""
    return committed(stack, group=group_of_broad(stack))


def phase(stack: Deployment) -> str | None:
    """Which step the backfill of the broad rule has come to."""
    asked = {**client_config(stack.broker.bootstrap), "group.id": group_of_broad(stack)}
    with closing(Consumer(asked)) as client:
        (first,) = client.committed([TopicPartition(stack.input, 0)], SECONDS)
    return json.loads(first.metadata)["phase"] if first.offset >= 0 else None


RULE_TEXT = """
[rule]
author = ["firstseen tests"]
description = "A load by a program not seen on this host before."
from = "now-2m"
index = ["logs-endpoint.events.library-*"]
interval = "1m"
language = "kuery"
license = "Apache-2.0"
name = "{rule_id}"
risk_score = 10
rule_id = "{rule_id}"
severity = "low"
type = "new_terms"
query = "{query}"

[rule.new_terms]
field = "new_terms_fields"
value = ["host.id", "process.executable"]
[[rule.new_terms.history_window_start]]
field = "history_window_start"
value = "now-7d"
"""
