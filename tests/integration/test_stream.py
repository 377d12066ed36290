"""The whole path on a real wire: events in, alerts out, the same as a replay of the same events."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.embedded.process import wait_until
from tests.deployment import NewDeployment
from tests.events import encode, library_event, many_events
from tests.rules import BUILTIN_RULE, rule_text


def replay(events: list[bytes], directory: Path) -> list[dict[str, Any]]:
    """Return the alerts of `firstseen replay` for these events."""
    file = directory / "events.ndjson"
    file.write_bytes(b"".join(event + b"\n" for event in events))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "replay", str(file)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
        timeout=120,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def new_terms(alerts: list[dict[str, Any]]) -> list[tuple[str, tuple[str, ...]]]:
    """Return (rule id, tuple) of each alert that is no summary."""
    return sorted(
        (alert["rule"]["id"], tuple(term["value"] for term in alert["detection"]["new_terms"]))
        for alert in alerts
    )


def ids(alerts: list[dict[str, Any]]) -> list[str]:
    return sorted(alert["event"]["id"] for alert in alerts)


def test_two_workers_one_restarted_tell_each_new_term_of_the_replay_once(
    new_deployment: NewDeployment, tmp_path: Path
):
    events = list(many_events(6_000, seed=1, tuples=90))
    expected = replay(events, tmp_path)
    stack = new_deployment()
    first = stack.start_worker("a")
    second = stack.start_worker("b")
    first.wait_ready()
    second.wait_ready()

    stack.produce(events[:2_000])
    second.stop()
    stack.produce(events[2_000:4_000])
    stack.start_worker("b").wait_ready()
    stack.produce(events[4_000:])
    stack.wait_drained()
    alerts = stack.alerts()

    assert len(expected) > 60
    assert new_terms(expected) == new_terms(alerts)
    assert [] == [n for n, times in Counter(ids(alerts)).items() if times > 1]


def test_with_one_partition_the_alerts_have_the_ids_of_the_replay(
    new_deployment: NewDeployment, tmp_path: Path
):
    events = list(many_events(1_500, seed=2, tuples=40))
    expected = replay(events, tmp_path)
    stack = new_deployment(input_partitions=1)
    worker = stack.start_worker()
    worker.wait_ready()

    stack.produce(events)
    stack.wait_drained()

    assert ids(expected) == ids(stack.alerts())


def test_a_restart_without_local_state_finds_no_old_term_new(new_deployment: NewDeployment):
    stack = new_deployment()
    worker = stack.start_worker()
    worker.wait_ready()
    stack.produce(list(many_events(1_000, seed=3, tuples=30)))
    stack.wait_drained()
    before = new_terms(stack.alerts())
    assert worker.stop() == 0
    shutil.rmtree(stack.directory / "a" / "state")

    again = stack.start_worker("a")
    again.wait_ready()
    stack.produce(list(many_events(1_000, seed=3, tuples=30)))
    stack.wait_drained()

    assert before == new_terms(stack.alerts())
    assert again.metric("firstseen_sightings_total", result="new") == 0


def test_of_a_term_that_is_seen_again_and_again_one_sighting_a_minute_goes_to_the_table(
    new_deployment: NewDeployment,
):
    stack = new_deployment(input_partitions=2)
    worker = stack.start_worker()
    worker.wait_ready()

    stack.produce(
        encode(library_event(number=n, executable=rf"C:\tools\{n % 10}.exe")) for n in range(2_000)
    )
    stack.wait_drained()

    def observations(result: str) -> int:
        return worker.metric("firstseen_observations_total", result=result)

    assert {rf"C:\tools\{n}.exe" for n in range(10)} == {
        value for _, terms in new_terms(stack.alerts()) for value in terms if ".exe" in value
    }
    assert 10 == len(stack.alerts())
    assert 2_000 == worker.metric("firstseen_records_processed_total", outcome="matched")
    assert 2_000 == worker.metric("firstseen_rule_matches_total", rule_id=BUILTIN_RULE)
    assert 2_000 == observations("forwarded") + observations("covered")
    assert 10 <= observations("forwarded") <= 100
    assert observations("forwarded") == worker.metric("firstseen_sightings_total")


def test_the_quota_lets_100_through_and_keeps_the_rest_in_full(new_deployment: NewDeployment):
    stack = new_deployment()
    workers = [stack.start_worker("a"), stack.start_worker("b")]
    for worker in workers:
        worker.wait_ready()

    stack.produce(
        encode(library_event(number=n, executable=rf"C:\tools\{n}.exe")) for n in range(250)
    )
    stack.wait_drained()
    alerts = [message for message in stack.read("alerts") if not is_summary(message)]
    overflow = stack.read("overflow")

    told = Counter(json.loads(message.value())["event"]["id"] for message in alerts + overflow)
    assert 250 == len(told)
    assert set(told.values()) == {1}
    # All within one window, unless its end fell between: then the second window has its own 100.
    assert (len(alerts), len(overflow)) in {(100, 150), (200, 50), *split_windows()}


def is_summary(message: Any) -> bool:
    return ("firstseen.kind", b"summary") in (message.headers() or [])


def split_windows() -> set[tuple[int, int]]:
    """What the quota gives when a window ended after k of the 250 candidates."""
    return {
        (min(k, 100) + min(250 - k, 100), 250 - min(k, 100) - min(250 - k, 100)) for k in range(251)
    }


def test_a_window_that_overflowed_closes_with_one_summary(
    new_deployment: NewDeployment, tmp_path: Path
):
    """A rule with windows of one second, so that the end of one is near."""
    rule = tmp_path / "quick.toml"
    rule.write_text(rule_text("quick", "event.category:library", interval="10s", max_signals=10))
    stack = new_deployment(settings={"FIRSTSEEN_RULES__PATHS": str(rule)})
    workers = [stack.start_worker("a"), stack.start_worker("b")]
    for worker in workers:
        worker.wait_ready()

    stack.produce(encode(library_event(number=n, executable=f"{n}.exe")) for n in range(250))
    stack.wait_drained()
    overflow = len(stack.read("overflow"))
    assert wait_until(lambda: summed(stack) >= overflow, seconds=30.0)

    assert summed(stack) == overflow
    assert 250 == overflow + len([m for m in stack.read("alerts") if not is_summary(m)])


def summed(stack: Any) -> int:
    """Return how many alerts the summaries say went to the overflow topic."""
    return sum(
        json.loads(message.value())["detection"]["overflow"]["count"]
        for message in stack.read("alerts")
        if is_summary(message)
    )
