"""Time on a real broker: what records claim and brokers stamp, old events, and clocks that are off.

A test names its paragraph of docs/concepts.md as ``#anchor:``, as tests/unit/engine/test_time.py
has it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Settings
from pipeline.embedded.process import wait_until
from pipeline.history.log_judge import LogJudge
from pipeline.kql import FieldTable
from pipeline.record import NO_TIMESTAMP
from pipeline.rules import RuleSet, load_rules
from pipeline.rules.timestamp import parse_timestamp
from tests import programs
from tests.chaos.clock import ClockFile
from tests.clients import Sent, read_all
from tests.deployment import Deployment, NewDeployment
from tests.events import encode, library_event
from tests.programs import executable_of
from tests.small_topics import small_topics

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
GUARD = 5 * MINUTE
KINDS = ("CreateTime", "LogAppendTime")


def now() -> int:
    return time.time_ns() // 1_000_000


def event_of(name: str, time_ms: int, **changes: Any) -> dict[str, Any]:
    """Return an event of a program of this name, at this time unless `changes` say otherwise."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    event = library_event(executable=f"{name}.exe", at=at)
    event["event"]["id"] = f"{name}-{time_ms}"
    return event | changes


def program_of(alert: dict[str, Any]) -> str:
    """Return the name that an alert's program was given by `event_of`."""
    return str(executable_of(alert)).removesuffix(".exe")


def told(stack: Deployment) -> Counter[str]:
    """Return how often each program was told, overflow included, by the names of `event_of`."""
    counts = programs.told(stack)
    return Counter({name.removesuffix(".exe"): times for name, times in counts.items()})


def stamped_by(kind: str, **options: Any) -> dict[str, Any]:
    """Return the options of a deployment whose input stamps so, and keeps what claims to be old."""
    return {"input_configs": {"message.timestamp.type": kind, "retention.ms": "-1"}, **options}


# -- what records say of time


def records(now_ms: int) -> list[Sent]:
    """Return records whose events and timestamps disagree in every way; names say what is what."""
    old, gone = now_ms - 40 * DAY, {"@timestamp": None}
    return [
        Sent(encode(event_of("own time", now_ms - HOUR)), timestamp_ms=old),
        Sent(encode(event_of("own old time", old)), timestamp_ms=now_ms),
        Sent(encode(event_of("from 2099", 4_070_908_800_000)), timestamp_ms=now_ms),
        Sent(encode(event_of("no time, old record", now_ms, **gone)), timestamp_ms=old),
        Sent(
            encode(event_of("bad time, record of now", 0, **{"@timestamp": "gestern"})),
            timestamp_ms=now_ms,
        ),
        Sent(
            encode(event_of("seconds, record without time", 0, **{"@timestamp": now_ms // 1000})),
            timestamp_ms=NO_TIMESTAMP,
        ),
        Sent(encode(event_of("no time, record of 1970", 0, **gone)), timestamp_ms=1),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_is_told_with_the_best_time_there_is(
    kafka_deployment: NewDeployment, tmp_path: Path, kind: str
):
    """#createtime-and-logappendtime: which of the two stands in, and where none does."""
    settings = small_topics(tmp_path / "topics", 1)
    stack = kafka_deployment(**stamped_by(kind, settings=settings, input_partitions=1))
    worker = stack.start_worker()
    worker.wait_ready()
    before = now()
    stack.produce(records(before))
    stack.wait_drained()
    after = now()

    detections = {program_of(alert): alert["detection"] for alert in stack.alerts()}
    times = {name: parse_timestamp(each["event_time"]) for name, each in detections.items()}
    stamps = {
        name: parse_timestamp(each["source"].get("timestamp", ""))
        for name, each in detections.items()
    }
    by_record = {name for name, each in detections.items() if each["event_time_source"] == "record"}
    assert len(times) == 7
    assert stack.read("dead_letters") == []
    assert times["own time"] == before - HOUR
    assert times["own old time"] == before - 40 * DAY
    assert by_record == set(times) - {"own time", "own old time", "from 2099"}
    if kind == "LogAppendTime":
        assert times["from 2099"] == (stamps["from 2099"] or 0) + GUARD
        assert {name: stamps[name] for name in by_record} == {n: times[n] for n in by_record}
        assert all(before - 1000 <= (stamp or 0) <= after for stamp in stamps.values())
    else:
        assert before + GUARD <= (times["from 2099"] or 0) <= after + GUARD
        assert times["no time, old record"] == before - 40 * DAY
        assert times["bad time, record of now"] == before
        assert stamps["seconds, record without time"] is None
        for name in ("seconds, record without time", "no time, record of 1970"):
            assert before <= (times[name] or 0) <= after, name
    assert worker.metric("firstseen_events_untimed_total") == 4
    assert worker.metric("firstseen_events_future_total") == 1
    untimed = 0 if kind == "LogAppendTime" else 2
    assert worker.metric("firstseen_alert_latency_seconds_count") == 7 - untimed
    assert_a_backfill_reads_the_same_times(stack, times, before)


def assert_a_backfill_reads_the_same_times(
    stack: Deployment, times: dict[str, int | None], before: int
) -> None:
    """Its client is another one; only what counts with the moment of reading may differ."""
    (compiled,) = RuleSet.compile(load_rules().rules, FieldTable.builtin())[0].runnable
    judge = LogJudge(Settings(), compiled)
    messages = read_all(stack.broker.bootstrap, stack.input)
    observations = [each.observation() for each in judge.sightings(messages)]
    found = {str(each.terms[1]).removesuffix(".exe"): each.time_ms for each in observations}

    assert found.keys() == times.keys()
    moments = {name for name in found if found[name] != times[name]}
    assert all(found[name] >= before for name in moments)
    assert moments <= {
        "from 2099",
        "seconds, record without time",
        "no time, record of 1970",
    }


def test_only_a_topic_with_logappendtime_takes_what_a_clock_far_ahead_sends(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    """#createtime-and-logappendtime: with CreateTime, a host goes dark by setting its clock."""
    ahead = now() + 2 * HOUR
    sent = Sent(encode(event_of("ahead", ahead)), timestamp_ms=ahead)
    dark = kafka_deployment(**stamped_by("CreateTime"))
    settings = small_topics(tmp_path / "topics", 1)
    seen = kafka_deployment(**stamped_by("LogAppendTime", settings=settings))

    with pytest.raises(RuntimeError, match=r"INVALID_TIMESTAMP"):
        dark.produce([sent])
    seen.start_worker().wait_ready()
    seen.produce([sent])
    seen.wait_drained()

    (alert,) = seen.alerts()
    assert alert["detection"]["event_time_capped"]


# -- late and old events


def test_late_events_are_told_when_unknown_and_only_then(
    kafka_deployment: NewDeployment, tmp_path: Path
):
    """#late-events: and a host whose clock is years behind is told once, though the sweep is fast."""
    settings = {
        **small_topics(tmp_path / "topics", 1),
        "FIRSTSEEN_STATE__SWEEP_INTERVAL": "1s",
        "FIRSTSEEN_STATE__GRANULARITY": "0s",
    }
    stack = kafka_deployment(settings=settings, input_partitions=1)
    worker = stack.start_worker()
    worker.wait_ready()
    start = now()

    def send(name: str, days_ago: int) -> None:
        stack.produce([encode(event_of(name, start - days_ago * DAY))])

    # A term whose history is over when the clock has come to now: it leaves, so passes are through.
    send("canary", 60)
    send("steady", 0)
    send("late and unknown", 35)
    send("clock behind", 2_000)
    assert wait_until(
        lambda: worker.metric("firstseen_state_removed_total", reason="expired") >= 1, seconds=60
    ), worker.tail()
    send("steady", 10)
    send("steady", 300)
    send("late and unknown", 34)
    send("clock behind", 1_999)
    send("clock behind", 1_990)
    stack.wait_drained()

    assert told(stack) == dict.fromkeys(["canary", "steady", "late and unknown", "clock behind"], 1)
    assert worker.metric("firstseen_state_removed_total", reason="expired") == 1


def two_months(start_ms: int) -> Iterator[bytes]:
    """Yield events of two months: terms that return in time and too late, some events late."""
    for hour in range(0, 60 * 24, 4):
        late = 9 if hour % 28 == 0 else 0
        time_ms = start_ms + (hour - late) * HOUR
        for name in (f"often {hour % 5}", f"each {1 + hour // 400} 16 days", f"once {hour // 12}"):
            if not name.startswith("each") or hour % (16 * 24) == 0:
                yield encode(event_of(name, time_ms))


@pytest.mark.parametrize("kind", KINDS)
def test_old_events_through_the_stream_give_the_new_terms_of_a_replay_of_files(
    kafka_deployment: NewDeployment, tmp_path: Path, kind: str
):
    """#replays-of-old-data: by id, though terms leave meanwhile; a second time nothing is told."""
    settings = {
        **small_topics(tmp_path / "topics", 1),
        "FIRSTSEEN_STATE__SWEEP_INTERVAL": "1s",
        "FIRSTSEEN_STATE__GRANULARITY": "0s",
    }
    stack = kafka_deployment(**stamped_by(kind, settings=settings, input_partitions=1))
    start = now() - 400 * DAY
    events = list(two_months(start))
    file = tmp_path / "events.ndjson"
    file.write_bytes(b"".join(event + b"\n" for event in events))
    replayed = [json.loads(line) for line in stack.command("replay", str(file)).stdout.splitlines()]
    worker = stack.start_worker()
    worker.wait_ready()
    sent = [Sent(each, timestamp_ms=start + n * MINUTE) for n, each in enumerate(events)]

    def streamed() -> list[str]:
        messages = [*stack.read("alerts"), *stack.read("overflow")]
        alerts = [json.loads(message.value()) for message in messages]
        return sorted(a["event"]["id"] for a in alerts if a["detection"].get("new_terms"))

    half = len(sent) // 2
    stack.produce(sent[:half])
    stack.wait_drained()
    stack.produce(sent[half:])
    assert wait_until(
        lambda: worker.metric("firstseen_state_removed_total", reason="expired") > 20, seconds=60
    ), worker.tail()
    stack.wait_drained()
    first = streamed()
    stack.produce(sent)
    stack.wait_drained()

    assert first == sorted(alert["event"]["id"] for alert in replayed)
    assert len(first) > 120
    assert streamed() == first


# -- clocks that are off


@pytest.mark.parametrize("shift", [timedelta(hours=2), timedelta(days=-400)], ids=str)
def test_a_worker_whose_clock_is_off_tells_what_is_new_and_nothing_else(
    kafka_deployment: NewDeployment, tmp_path: Path, shift: timedelta
):
    """#wrong-clocks: brokers take what it writes, no term is missed, and none is told twice."""
    settings = small_topics(tmp_path / "topics", 1)
    stack = kafka_deployment(settings=settings, input_partitions=1)
    clock = ClockFile(tmp_path / "clock")
    begin = now()
    right = stack.start_worker("right")
    right.wait_ready()
    stack.produce([encode(event_of("known", now()))])
    stack.wait_drained()
    assert right.stop() == 0

    clock.move(round(shift.total_seconds()))
    off = stack.start_worker("right", module="tests.chaos.worker", CHAOS_CLOCK=str(clock.path))
    off.wait_ready()
    stack.produce([encode(event_of(name, now())) for name in ("known", "new", "known", "new")])
    assert wait_until(lambda: told(stack)["new"] == 1, seconds=60), off.tail()
    stack.produce([encode(event_of("last", now()))])
    assert wait_until(lambda: told(stack)["last"] == 1, seconds=60), off.tail()

    assert told(stack) == dict.fromkeys(["known", "new", "last"], 1)
    raised = [parse_timestamp(alert["@timestamp"]) or 0 for alert in stack.alerts()]
    assert all(begin - 1000 <= each <= now() + 1000 for each in raised)
