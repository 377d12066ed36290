"""What each way to end looks like: the exit code and what is said on stderr."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pipeline.cli.exits import ReportingGroup
from pipeline.cli.lazy import LazyCommand
from pipeline.errors import (
    BrokerUnreachableError,
    DeadLetterLimitError,
    DecodeError,
    DeliveryError,
    EventsFileError,
    FirstseenError,
    QuerySyntaxError,
    RuleError,
    SettingsError,
    Span,
    StateError,
    TopicSpecError,
    TopologyError,
)
from tests.terminals import written_to

RAISED: dict[str, BaseException] = {}


@click.command()
@click.argument("name")
def fail(name: str) -> None:
    """Raise what the test asks for."""
    raise RAISED[name]


@click.command()
@click.argument("code", type=int)
def leave(code: int) -> int:
    """Return an exit code."""
    return code


@click.command(
    cls=ReportingGroup,
    lazy={name: LazyCommand(__name__, name, name) for name in ("fail", "leave")},
)
@click.option("--debug", is_flag=True)
def root(debug: bool) -> None:
    """Stands for firstseen."""


def end_with(error: BaseException, *flags: str):
    RAISED["it"] = error
    return CliRunner().invoke(root, [*flags, "fail", "it"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FirstseenError("x"), 1),
        (QuerySyntaxError("x", text="a", span=Span(0, 1)), 1),
        (DecodeError("empty", "x"), 1),
        (click.UsageError("x"), 2),
        (EventsFileError("x"), 2),
        (SettingsError("x"), 3),
        (TopicSpecError("x"), 3),
        (RuleError("x"), 4),
        (BrokerUnreachableError("x"), 4),
        (TopologyError("x"), 4),
        (StateError("x"), 5),
        (DeliveryError("x"), 5),
        (DeadLetterLimitError("x"), 5),
        (ZeroDivisionError("x"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_every_error_ends_with_the_code_of_its_class_and_no_traceback(error, code):
    result = end_with(error)

    assert result.exit_code == code
    assert "Traceback" not in result.output


@pytest.mark.parametrize("code", [0, 1, 4, 5])
def test_a_command_may_return_its_exit_code(code):
    assert CliRunner().invoke(root, ["leave", str(code)]).exit_code == code


def test_an_error_of_ours_is_its_message_and_nothing_more():
    assert end_with(TopologyError("no topic")).stderr == "Error: no topic\n"


def test_a_bug_is_one_line_and_a_way_to_see_more():
    expected = (
        "Error: sorry, this is a bug in firstseen: ZeroDivisionError: x\n"
        "Please report it with the output of `firstseen --debug ...`.\n"
    )
    assert end_with(ZeroDivisionError("x")).stderr == expected


def test_the_traceback_is_shown_to_those_who_ask(monkeypatch):
    assert "Traceback" in end_with(ZeroDivisionError("x"), "--debug").stderr

    monkeypatch.setenv("FIRSTSEEN_LOG__LEVEL", "DEBUG")
    assert "Traceback" in end_with(ZeroDivisionError("x")).stderr


def test_what_an_error_quotes_cannot_drive_the_terminal():
    result = end_with(FirstseenError("topic \x1b[2J\x9b\u202e"))

    assert result.stderr == "Error: topic \\x1b[2J\\x9b\\u202e\n"


def test_an_error_of_several_lines_keeps_them():
    assert end_with(FirstseenError("two:\n  a\n\tb")).stderr == "Error: two:\n  a\n\tb\n"


def test_outside_of_standalone_mode_nothing_ends_the_process():
    assert root.main(["leave", "4"], standalone_mode=False) == 4


def test_ctrl_c_ends_without_a_traceback(start, events):
    process = start("replay", "-")
    process.stdin.write(events.read_bytes().split(b"\n")[0] + b"\n" * 300_000)
    process.stdin.flush()
    process.stdout.readline()  # an alert: the command is at work
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()

    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err


def test_a_reader_that_goes_away_is_no_error(start, events):
    lines = start("match", "-", stdout=subprocess.PIPE)
    lines.stdout.close()
    _, err = lines.communicate(events.read_bytes() * 2_000)

    assert (lines.returncode, err) == (141, b"")


def test_a_full_disk_is_no_bug(start, events):
    with Path("/dev/full").open("wb") as full:
        process = start("replay", events, stdout=full)
        _, err = process.communicate()

    assert process.returncode == 1
    assert b"Error: [Errno 28] No space left on device" in err
    assert b"bug" not in err
    assert b"Exception ignored" not in err


def test_standard_output_may_be_closed():
    command = ["sh", "-c", 'exec "$0" -m pipeline rules list >&-', sys.executable]
    done = subprocess.run(command, stderr=subprocess.PIPE, check=False)

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_who_wants_no_colours_gets_none(start, tmp_path, environment, coloured):
    event = tmp_path / "event.json"
    event.write_text("{}")
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", **environment}
    process = start("query", "explain", "host.id:*", event, stdout=theirs, env=env)
    os.close(theirs)
    shown = written_to(ours)

    assert process.wait() == 0
    assert "does not match" in shown
    assert ("\x1b[" in shown) is coloured


def test_help_that_nobody_reads_to_its_end_is_no_error(start):
    process = start("--help")
    process.stdout.close()
    _, err = process.communicate()

    assert err == b""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["replay"], 2, "Missing argument 'EVENTS...'"),
        (["replay", "no-such-file"], 2, "no-such-file"),
        (["query", "check", "a:("], 1, "a:(\n       ^"),
        (["config", "check", "--set", "kafka.group=x"], 3, "did you mean kafka.group_id?"),
        (["config", "check", "--set", "kafka.nope=x"], 3, "kafka.nope: no such setting\n"),
        (["config", "check", "--set", "x"], 2, "KEY=VALUE"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_real_commands_end_as_documented(start, arguments, code, said):
    process = start(*arguments)
    _, err = process.communicate()

    assert process.returncode == code
    assert said in err.decode()
    assert "Traceback" not in err.decode()


def test_without_a_broker_one_clear_line_says_so(start):
    nowhere = ("--set", "kafka.bootstrap_servers=127.0.0.1:1", "--set", "log.format=console")
    commands = [("topics", "plan"), ("topics", "apply"), ("alerts", "tail"), ("worker",)]
    # All at once: each waits ten seconds for an answer.
    processes = [start(*command, *nowhere) for command in commands]
    said = [process.communicate()[1].decode().splitlines() for process in processes]

    assert [process.returncode for process in processes] == [4, 4, 4, 4]
    assert [len(lines) for lines in said] == [1, 1, 1, 1]
    assert all(line.startswith("Error: cannot reach any broker of 127.0.0.1:1") for (line,) in said)
