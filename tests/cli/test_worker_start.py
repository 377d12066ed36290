"""A worker that cannot start says why in the form of its logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start

CANARY = "canary-9Zq4"


@pytest.fixture
def worker(start: Start) -> Any:
    """worker("--set", "web.port=1", VARIABLE="x") -> exit code, standard error."""

    def call(*arguments: object, **variables: str) -> tuple[int, str]:
        process = start("worker", *arguments, env={**os.environ, **variables})
        _, error = process.communicate(timeout=60)
        return process.returncode, error.decode()

    return call


@pytest.fixture
def wrong_rule(tmp_path: Path) -> Path:
    path = tmp_path / "broken.toml"
    path.write_text('[rule]\nname = "x"\n')
    return path


def event(error: str) -> dict[str, Any]:
    """Return the last line, which is the log event of the error."""
    found: dict[str, Any] = json.loads(error.splitlines()[-1])
    assert (found["event.action"], found["log.level"]) == ("worker_not_started", "error")
    return found


def test_a_wrong_setting_is_a_log_event(worker: Any) -> None:
    code, error = worker(FIRSTSEEN_WEB__PORT="many")

    assert (code, len(error.splitlines())) == (3, 1)
    assert event(error)["error.code"] == "settings"
    assert "web.port: 'many'" in event(error)["error.message"]
    assert "error.stack_trace" not in event(error)


def test_no_usable_rule_is_a_log_event(worker: Any, wrong_rule: Path) -> None:
    code, error = worker("--rules", wrong_rule)

    assert (code, event(error)["error.code"]) == (4, "rule")
    assert all(line.startswith("{") for line in error.splitlines())


@pytest.mark.parametrize("by", ["environment", "file", "flag"])
def test_where_logs_are_for_people_it_is_a_line(worker: Any, tmp_path: Path, by: str) -> None:
    """The setting counts wherever it stands, although another one is wrong."""
    file = tmp_path / "settings.yml"
    file.write_text("log:\n  format: console\nweb:\n  port: many\n")
    arguments = {
        "environment": ["--set", "web.port=many"],
        "file": ["--config", file],
        "flag": ["--set", "web.port=many", "--set", "log.format=console"],
    }[by]
    variables = {"FIRSTSEEN_LOG__FORMAT": "console"} if by == "environment" else {}

    code, error = worker(*arguments, **variables)

    assert code == 3
    assert error.startswith("Error: web.port: 'many'")


@pytest.mark.parametrize(
    "text", ["log:\n  format: none\n  level: loud\n", "log: [\n", "log:\n  format: [console]\n"]
)
def test_a_wrong_format_counts_as_none(worker: Any, tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.yml"
    file.write_text(text)
    code, error = worker("--config", file)

    assert (code, event(error)["error.code"]) == (3, "settings")


def test_the_event_has_a_traceback_only_if_it_is_asked_for_and_never_a_secret(
    worker: Any, wrong_rule: Path
) -> None:
    code, error = worker(
        "--rules",
        wrong_rule,
        FIRSTSEEN_LOG__LEVEL="debug",
        FIRSTSEEN_KAFKA__SECURITY_PROTOCOL="SASL_SSL",
        FIRSTSEEN_KAFKA__SASL_MECHANISM="PLAIN",
        FIRSTSEEN_KAFKA__SASL_USERNAME="ann",
        FIRSTSEEN_KAFKA__SASL_PASSWORD=CANARY,
    )

    assert (code, "RuleError" in event(error)["error.stack_trace"]) == (4, True)
    assert CANARY not in error


FAILS = """
from pipeline.cli import root, worker
def fail(*_, **__):
    raise {error}
worker._run = fail
root.firstseen()
"""


def failed(error: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """Return exit code and standard error of a worker whose start raises an error."""
    command = [sys.executable, "-c", FAILS.format(error=error), *arguments]
    ended = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        ("OSError(28, 'No space left on device')", "could not start"),
        ("ZeroDivisionError('x')", "could not start because of a bug: please report it"),
    ],
)
def test_what_nobody_expects_is_a_log_event_with_a_traceback(raised: str, message: str) -> None:
    code, error = failed(raised, "worker")

    assert (code, len(error.splitlines())) == (1, 1)
    assert event(error)["message"] == message
    assert raised.partition("(")[0] in event(error)["error.stack_trace"]
    assert "error.code" not in event(error)


def test_where_logs_are_for_people_a_bug_is_a_line() -> None:
    code, error = failed("ZeroDivisionError('x')", "worker", FIRSTSEEN_LOG__FORMAT="console")

    assert code == 1
    assert error.startswith("Error: sorry, this is a bug in firstseen: ZeroDivisionError: x")


def test_other_commands_say_their_errors_in_a_line(start: Start) -> None:
    process = start("topics", "plan", env={**os.environ, "FIRSTSEEN_WEB__PORT": "many"})
    _, error = process.communicate(timeout=60)

    assert error.decode().startswith("Error: web.port: 'many'")
