"""Values made to hurt, through a real worker: very long ones, very many, and ones that pretend."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

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
