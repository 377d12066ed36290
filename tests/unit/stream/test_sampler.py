"""The look that a worker takes at itself once a second."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from faust.types import TP

from pipeline.errors import StallError
from pipeline.stream import sampler as sampler_module
from pipeline.stream.health import Condition
from pipeline.stream.sampler import Sampler
from pipeline.telemetry.metrics import Metrics


class App:
    """A running app without partitions."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.looks = 0
        self.enough = asyncio.Event()
        self.outbox: list[object] = []
        self.state_tables: dict[str, Any] = {}
        self.in_recovery = False
        self.consumer = SimpleNamespace(lags=dict, last_commit_at=0.0)

    def watch(self) -> None:
        self.looks += 1
        if self.looks > 3:
            self.enough.set()

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)


def health(**others: Any) -> Any:
    ready = Condition(ok=True, reason="ready")
    said = {
        "hang_error": None, "state": "running", "ready": ready, "stall_error": None, "observe": None, **others
    }  # fmt: skip
    return SimpleNamespace(
        reset_progress=lambda: None,
        **{name: (lambda *_, value=value: value) for name, value in said.items()},
    )


def looked(
    monkeypatch: pytest.MonkeyPatch,
    app: Any,
    judge: Any,
    metrics: Metrics | None = None,
    **others: Any,
) -> None:
    """Have a worker look at itself four times."""
    monkeypatch.setattr(sampler_module, "_SAMPLE_SECONDS", 0.001)
    sampler = Sampler(app, judge, metrics or Metrics(), ("events",), **others)

    async def run() -> None:
        sampling = asyncio.create_task(sampler.run())
        async with asyncio.timeout(30):
            await app.enough.wait()
        sampling.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("name", ["hang_error", "stall_error"])
def test_a_worker_that_hangs_or_is_stalled_fails(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    app, error = App(), StallError("it hangs")

    looked(monkeypatch, app, health(**{name: error}))

    assert app.failures[0] is error


def test_a_look_that_fails_is_told_and_the_next_one_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = App()
    app.consumer.lags = lambda: 1 / 0

    with structlog.testing.capture_logs() as lines:
        looked(monkeypatch, app, health())

    assert app.looks > 3
    assert app.failures == []
    assert {line["action"] for line in lines if line["log_level"] == "error"} == {"look_failed"}


def test_it_is_told_once_that_a_worker_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    looked(monkeypatch, App(), health(), on_ready=lambda: told.append("ready"))
    looked(monkeypatch, App(), health(state="joining"), on_ready=lambda: told.append("joining"))

    assert told == ["ready"]


def test_a_topic_of_which_all_partitions_went_to_others_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, metrics = App(), Metrics()
    answers = [{TP("events", 0): 0, TP("events", 1): 5, TP("new-terms", 0): 0}]
    app.consumer.lags = lambda: answers.pop() if answers else {TP("events", 1): 5}
    app.consumer.open_transaction = lambda _: None

    looked(monkeypatch, app, health(), metrics)

    page = metrics.render().decode()
    assert 'firstseen_assigned_partitions{topic="events"} 1.0' in page
    assert 'firstseen_assigned_partitions{topic="new-terms"} 0.0' in page
    assert 'firstseen_consumer_lag_records{partition="1",topic="events"} 5.0' in page
    assert 'partition="0"' not in page


def test_each_change_of_state_is_in_the_log_once(monkeypatch: pytest.MonkeyPatch) -> None:
    states = ["joining", "joining", "recovering"]
    judge = health()
    judge.state = lambda: states.pop(0) if states else "running"

    with structlog.testing.capture_logs() as lines:
        looked(monkeypatch, App(), judge)

    assert ["joining", "recovering", "running"] == [
        line["state"] for line in lines if line["action"] == "worker_state"
    ]
