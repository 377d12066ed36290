"""The made-up events of the demo."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pipeline.embedded.sample import sample_events

START = datetime(2026, 3, 2, tzinfo=UTC)


def times() -> Iterator[datetime]:
    return (START + timedelta(milliseconds=20 * number) for number in itertools.count())


def sample(count: int, **options: int) -> list[dict]:
    return list(itertools.islice(sample_events(times(), **options), count))


def test_a_seed_makes_the_same_events_every_time():
    assert sample(200, seed=5) == sample(200, seed=5)
    assert sample(200, seed=5) != sample(200, seed=6)


def test_something_happens_at_once_and_again_and_again(run):
    lines = "\n".join(json.dumps(event) for event in sample(2_000))
    alerts = run("replay", "-", stdin=lines).stdout.splitlines()

    offsets = [json.loads(alert)["detection"]["source"]["offset"] for alert in alerts]
    assert offsets[0] < 10
    assert len(offsets) >= 8


def test_those_who_may_load_the_engine_raise_nothing(run):
    events = sample(3_000)
    lines = "\n".join(json.dumps(event) for event in events)
    alerts = [json.loads(line) for line in run("replay", "-", stdin=lines).stdout.splitlines()]

    alerted = {alert["process"]["name"] for alert in alerts}
    loaded = {e["process"]["name"] for e in events if "Automation" in e["dll"]["name"]}
    assert loaded - alerted == {"powershell.exe", "fleetagent.exe"}
