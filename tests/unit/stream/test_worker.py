"""How a worker starts, and what it makes of errors that nobody has caught."""

from __future__ import annotations

from types import SimpleNamespace

import structlog

from pipeline.stream import worker as worker_module


def test_a_thread_that_ends_with_an_error_is_in_the_log() -> None:
    with structlog.testing.capture_logs() as lines:
        worker_module._thread_failed(
            SimpleNamespace(thread=SimpleNamespace(name="T"), exc_value=ZeroDivisionError("x"))
        )

    assert [(line["action"], line["thread"]) for line in lines] == [("thread_failed", "T")]
