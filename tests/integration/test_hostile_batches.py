"""Record batches that hurt, through a real broker and a real worker: the stream goes on."""

from __future__ import annotations

import json

import psutil

from tests.deployment import NewDeployment
from tests.events import NO_JSON, encode, library_event
from tests.record_batches import (
    CODECS,
    RawRecord,
    batch,
    bomb,
    compress,
    produce_batch,
    section,
)
from tests.rules import BUILTIN_RULE

BOMB_BYTES = 256 << 20


def test_a_batch_that_cannot_be_read_is_a_dead_letter_and_what_follows_is_told(
    kafka_deployment: NewDeployment,
):
    stack = kafka_deployment(input_partitions=1)
    worker = stack.start_worker()
    worker.wait_ready()
    process = psutil.Process(worker.process.pid)
    before = process.memory_info().rss

    def event(number: int) -> bytes:
        return encode(library_event(number=number, executable=rf"C:\tools\{number}.exe"))

    odd = [
        RawRecord(event(1), b"key", ((b"\xff\xfe", b"v"), (b"none", None))),
        RawRecord(NO_JSON, None, ((b"\xff", b"\x00"),)),
    ]
    sent = [
        batch(compress(section(odd), "zstd"), 2, CODECS["zstd"]),
        batch(bomb("zstd", BOMB_BYTES), 1, CODECS["zstd"]),
        batch(bomb("gzip", BOMB_BYTES), 1, CODECS["gzip"]),
        batch(
            compress(section([RawRecord(bytes(BOMB_BYTES >> 1))] * 3), "zstd"), 3, CODECS["zstd"]
        ),
        batch(section([RawRecord(event(2))]), 1),
    ]
    for data in sent:
        produce_batch(stack.broker.bootstrap, stack.input, 0, data)
    stack.wait_drained()

    growth = process.memory_info().rss - before
    alerts = stack.alerts()
    listed = json.loads(stack.command("dead-letters", "list", "--json").stdout)
    requeued = stack.command(
        "dead-letters", "requeue", "--code", "unreadable_batch", "--yes", "--json", check=False
    )
    places = {letter["code"]: letter["letter"] for letter in listed["letters"]}
    shown = stack.command("dead-letters", "show", places["invalid_json"]).stdout
    learned = stack.command("history", "backfill", "--rule", BUILTIN_RULE, "--json")
    print(f"{growth >> 20} MiB more after bombs of {BOMB_BYTES >> 20} MiB")  # noqa: T201

    assert worker.process.poll() is None
    assert sorted(alert["detection"]["event_id"] for alert in alerts) == [
        "event-00000001",
        "event-00000002",
    ]
    assert listed["codes"] == {"unreadable_batch": 3, "invalid_json": 1}
    assert {letter["offset"] for letter in listed["letters"]} == {1, 2, 3, 4}
    assert all(
        "134217728 bytes" in letter["message"]
        for letter in listed["letters"]
        if letter["code"] == "unreadable_batch"
    )
    assert worker.metric("firstseen_records_processed_total", outcome="dead_letter") == 6
    assert worker.metric("firstseen_records_processed_total") == 8
    assert requeued.returncode == 1
    assert {each["offset"] for each in json.loads(requeued.stdout)["refused"]} == {2, 3, 4}
    # librdkafka, which the backfill reads with, takes other bombs than the worker does.
    assert json.loads(learned.stdout)["learned"] == 2
    assert growth < 512 << 20
    assert "\\xff" in shown
