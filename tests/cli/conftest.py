"""What tests of the command line run, inside the test, and what they run it on.

As a process of its own: the fixture `start` of tests/conftest.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.cli.root import firstseen
from tests.events import encode, library_event

Run = Callable[..., Result]


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
