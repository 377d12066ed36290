"""Ways to run the command line: inside the test, and as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.cli.root import firstseen
from tests.events import encode, library_event

Run = Callable[..., Result]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def run() -> Run:
    """run("rules", "list") -> Click's result: exit_code, stdout, stderr."""

    def call(*arguments: object, stdin: str | bytes | None = None) -> Result:
        runner = CliRunner()
        return runner.invoke(
            firstseen, [str(a) for a in arguments], input=stdin, prog_name="firstseen"
        )

    return call


@pytest.fixture
def start() -> Iterable[Start]:
    """start("replay", "-") -> the process; it is gone at the end of the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def call(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        settings = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": dict(os.environ),
            **options,
        }
        command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
        process = subprocess.Popen(command, **settings)  # type: ignore[call-overload]
        processes.append(process)
        return process

    yield call
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """Four events: new, known, new for another user, and no match."""
    lines = [
        library_event(number=1),
        library_event(number=2),
        library_event(number=3, user="S-1-5-21-2"),
        library_event(number=4, dll="kernel32.dll"),
    ]
    path = tmp_path / "events.ndjson"
    path.write_bytes(b"".join(encode(event) + b"\n" for event in lines))
    return path


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    """A rule of type query that every event of ann matches, with one test that passes."""
    path = tmp_path / "ann.toml"
    path.write_text(
        '[rule]\nrule_id = "ann-1"\nname = "Ann does something"\ndescription = "Ann."\n'
        'type = "query"\nlanguage = "kuery"\nseverity = "low"\nrisk_score = 21\n'
        "query = 'user.name:ann'\n"
        '[[tests]]\nname = "ann alerts"\nevents = [{ user.name = "ann" }, { user.name = "bob" }]\n'
        'expect = ["alert", "no_match"]\n'
    )
    return path
