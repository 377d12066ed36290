"""The look that a worker takes at itself once a second."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from pipeline.config import Settings
from pipeline.errors import ConfigError, StallError
from pipeline.rules import RuleSet
from pipeline.stream import worker as worker_module
from pipeline.stream.health import Condition
from pipeline.stream.worker import Worker
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
        "hang": None, "state": "running", "ready": ready, "stall": None, "observe": None, **others
    }  # fmt: skip
    return SimpleNamespace(
        expect_nothing=lambda: None,
        **{name: (lambda *_, value=value: value) for name, value in said.items()},
    )


def looked(monkeypatch: pytest.MonkeyPatch, app: App, judge: Any, **worker: Any) -> None:
    """Have a worker look at itself four times."""
    monkeypatch.setattr(worker_module, "_SAMPLE_SECONDS", 0.001)
    watched = Worker(Settings(), RuleSet(()), Metrics(), **worker)

    async def run() -> None:
        sampling = asyncio.create_task(watched._sample(app, judge))
        async with asyncio.timeout(30):
            await app.enough.wait()
        sampling.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("name", ["hang", "stall"])
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
    assert {line["action"] for line in lines} == {"look_failed"}


def test_a_thread_that_ends_with_an_error_is_in_the_log() -> None:
    with structlog.testing.capture_logs() as lines:
        worker_module._thread_failed(
            SimpleNamespace(thread=SimpleNamespace(name="T"), exc_value=ZeroDivisionError("x"))
        )

    assert [(line["action"], line["thread"]) for line in lines] == [("thread_failed", "T")]


def test_a_state_folder_that_cannot_be_written_to_is_told_at_the_start() -> None:
    with pytest.raises(ConfigError, match="cannot write to the state folder /proc/self"):
        worker_module._make_folder(Path("/proc/self"))


def test_it_is_told_once_that_a_worker_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    looked(monkeypatch, App(), health(), on_ready=lambda: told.append("ready"))
    looked(monkeypatch, App(), health(state="joining"), on_ready=lambda: told.append("joining"))

    assert told == ["ready"]
