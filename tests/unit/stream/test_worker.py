"""How a worker starts, and what it makes of errors that nobody has caught."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog

from pipeline.errors import ConfigError
from pipeline.stream import worker as worker_module


def test_a_thread_that_ends_with_an_error_is_in_the_log() -> None:
    with structlog.testing.capture_logs() as lines:
        worker_module._thread_failed(
            SimpleNamespace(thread=SimpleNamespace(name="T"), exc_value=ZeroDivisionError("x"))
        )

    assert [(line["action"], line["thread"]) for line in lines] == [("thread_failed", "T")]


def test_a_state_folder_that_cannot_be_written_to_is_told_at_the_start() -> None:
    with pytest.raises(ConfigError, match="cannot write to the state folder /proc/self"):
        worker_module._make_folder(Path("/proc/self"))
