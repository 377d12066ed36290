"""Values made to hurt, through a real worker: very long ones, very many, and ones that pretend."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.engine.entities import MAX_CHARACTERS
from pipeline.engine.first_seen_rows import TERM_CHARACTERS, decode_row
from tests.deployment import NewDeployment
from tests.events import encode, library_event

LONG_RULE = Path(__file__).parents[1] / "fuzz" / "rules" / "long.toml"

FLOOD = int(os.environ.get("TEST_FLOOD", "5000"))
"""Distinct terms of the flood; docs/hostile-input.md tells of a run with 200,000."""


def test_a_command_line_of_900_kb_is_a_term_like_any_other(kafka_deployment: NewDeployment):
    stack = kafka_deployment(settings={"FIRSTSEEN_RULES__PATHS": str(LONG_RULE)})
    worker = stack.start_worker()
    worker.wait_ready()
    event = library_event(number=1)
    event["process"]["command_line"] = "tool System.Management " + "\u20ac\\\"'" * 90_000 + "end"
    value = encode(event)
    other = library_event(number=2)
    other["process"]["command_line"] = event["process"]["command_line"][:-1] + "!"

    stack.produce([value, value, encode(other)])
    stack.wait_drained()

    rows = [
        decode_row(message.value())
        for message in stack.read("first-seen-changelog")
        if message.value() and len(message.key()) == 24
    ]
    alerts = stack.alerts()
    assert len(value) > 900_000
    assert worker.process.poll() is None
    assert len(alerts) == 2  # they differ in their last character only
    for alert in alerts:
        (term,) = alert["detection"]["new_terms"]
        assert len(term["value"]) == MAX_CHARACTERS
        assert len(alert["process"]["command_line"]) == MAX_CHARACTERS
    assert {alert["event"]["original"].encode() for alert in alerts} == {value, encode(other)}
    assert max(len(str(term)) for row in rows for term in row.terms) == TERM_CHARACTERS
    assert stack.read("dead_letters") == []


def flood(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield encode(
            library_event(
                number=number, host="noisy", executable=rf"C:\flood\{number:08d}\tool.exe"
            )
        )


def test_a_flood_of_terms_from_one_host_leaves_the_others_their_history(
    kafka_deployment: NewDeployment,
):
    stack = kafka_deployment()
    worker = stack.start_worker()
    worker.wait_ready()
    quiet = encode(library_event(number=10**7, host="quiet", executable=r"C:\quiet\tool.exe"))
    stack.produce([quiet])
    stack.wait_drained()
    process = psutil.Process(worker.process.pid)
    before = process.memory_info().rss

    stack.produce(flood(FLOOD))
    stack.wait_drained(120 + FLOOD / 200)
    stack.produce([quiet.replace(b"event-10000000", b"event-10000001")])
    stack.wait_drained()
    growth = process.memory_info().rss - before

    told = [alert for alert in stack.alerts() if alert["labels"]["alert_kind"] == "new_term"]
    hosts = [alert["host"]["id"] for alert in told]
    assert worker.process.poll() is None
    assert worker.metric("firstseen_sightings_total", result="new") == FLOOD + 1
    assert len(told) + len(stack.read("overflow")) == FLOOD + 1
    assert hosts.count("quiet") == 1
    # It is not judged again within the granularity, or it is known: it is never new.
    assert growth < 256 << 20, f"{growth >> 20} MiB"
    print(f"{FLOOD} terms, {growth >> 20} MiB more")  # noqa: T201


def test_a_worker_listens_on_loopback_alone(new_deployment: NewDeployment):
    worker = new_deployment().start_worker()
    worker.wait_ready()

    process = psutil.Process(worker.process.pid)
    listening = {
        (each.laddr.ip, each.laddr.port)
        for one in (process, *process.children(recursive=True))
        for each in one.net_connections()
        if each.status == psutil.CONN_LISTEN
    }

    assert listening == {("127.0.0.1", worker.port)}


@pytest.mark.parametrize("form", ["json", "console"])
def test_what_a_stranger_wrote_cannot_drive_the_terminal_that_shows_the_log(
    kafka_deployment: NewDeployment, form: str
):
    stack = kafka_deployment(settings={"FIRSTSEEN_LOG__FORMAT": form})
    worker = stack.start_worker()
    worker.wait_ready()
    hostile = "\x1b[2J\x1b]0;owned\x07\u202egpj\u2028\x85\r\nERROR forged"
    event = library_event(number=1, host=hostile, executable=hostile)
    event["@timestamp"] = hostile
    broken = encode(event)[:-1].replace(b"\\u001b", b"\x1b")

    stack.produce([encode(event), broken, encode({**event, "@timestamp": "2026-03-02T08:00:00Z"})])
    stack.wait_drained()
    worker.stop()
    log = worker.log.read_text()

    assert len(stack.read("dead_letters")) == 1
    assert not {c for c in log if not c.isprintable() and c != "\n"}
    assert not [line for line in log.splitlines() if line.startswith("ERROR forged")]
    if form == "json":
        assert [json.loads(line) for line in log.splitlines()]
