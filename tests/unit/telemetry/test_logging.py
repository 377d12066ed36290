"""Logs: ECS fields, one stream, no flood, nothing a terminal would obey, no secret."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog

import pipeline
from pipeline.config import LogSettings
from pipeline.errors import DecodeError, TopologyError
from pipeline.telemetry.log_events import LOG_EVENTS
from pipeline.telemetry.logging import RepeatLimit, configure, get_logger, printable


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _restore_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture
def log(stream):
    configure(LogSettings(format="json", level="info"), stream)
    return get_logger("pipeline.test")


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_the_names_of_ecs(log, stream):
    log.info(
        "stopping", action="worker_stopping", topic="a", partition=3, offset=9, rule_id="r", n=1
    )

    (line,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["@timestamp"])
    assert {
        "log.level": "info",
        "message": "stopping",
        "log.logger": "pipeline.test",
        "service.name": "firstseen",
        "service.version": pipeline.__version__,
        "event.action": "worker_stopping",
        "kafka.topic": "a",
        "kafka.partition": 3,
        "kafka.offset": 9,
        "rule.id": "r",
        "firstseen.n": 1,
    }.items() <= line.items()


def test_an_error_of_ours_has_its_code_and_no_stack(log, stream):
    log.error("failed", action="worker_failed", error=TopologyError("topic a does not exist"))

    (line,) = lines(stream)
    assert ("topology", "TopologyError", "topic a does not exist", False) == (
        line["error.code"],
        line["error.type"],
        line["error.message"],
        "error.stack_trace" in line,
    )


def test_the_code_of_a_bad_record_is_its_reason(log, stream):
    log.warning("bad", error=DecodeError("too_deep", "nested too deep"))

    assert ["too_deep"] == [line["error.code"] for line in lines(stream)]


@pytest.mark.parametrize("how", ["exception", "error", "exc_info"])
def test_an_unexpected_error_has_its_stack(log, stream, how):
    try:
        {}["k"]
    except KeyError as error:
        if how == "exception":
            log.exception("failed")
        elif how == "error":
            log.error("failed", error=error)  # noqa: TRY400
        else:
            log.error("failed", exc_info=error)  # noqa: TRY400

    (line,) = lines(stream)
    assert ("KeyError", "error") == (line["error.type"], line["log.level"])
    assert line["error.stack_trace"].startswith("Traceback")


def test_an_error_may_be_plain_text(log, stream):
    log.error("failed", error="why")

    assert ["why"] == [line["error.message"] for line in lines(stream)]


def test_libraries_log_the_same_way(log, stream):
    logging.getLogger("faust.transport").warning("commit put off: %d records", 3)

    (line,) = lines(stream)
    assert ("commit put off: 3 records", "faust.transport", "warning") == (
        line["message"],
        line["log.logger"],
        line["log.level"],
    )


def test_an_exception_of_a_library_has_its_stack(log, stream):
    try:
        {}["k"]
    except KeyError:
        logging.getLogger("faust").exception("crashed")

    assert ["KeyError"] == [line["error.type"] for line in lines(stream)]


def test_chatter_of_libraries_is_left_out(log, stream):
    logging.getLogger("aiokafka").info("joined group")
    log.info("ours")

    assert ["ours"] == [line["message"] for line in lines(stream)]


def test_lines_below_the_level_are_left_out(stream):
    configure(LogSettings(level="warning", format="json"), stream)

    get_logger("x").info("no")
    get_logger("x").warning("yes")

    assert ["yes"] == [line["message"] for line in lines(stream)]


def test_configuring_again_replaces_and_doubles_nothing(stream):
    configure(LogSettings(format="json"), io.StringIO())
    configure(LogSettings(format="json"), stream)

    get_logger("x").info("once")

    assert ["once"] == [line["message"] for line in lines(stream)]


def test_a_logger_made_before_the_configuration_obeys_it(stream):
    log = get_logger("early")
    configure(LogSettings(format="json"), stream)

    log.info("x")

    assert ["early"] == [line["log.logger"] for line in lines(stream)]


@pytest.mark.parametrize(("out", "is_json"), [(io.StringIO, True), (Terminal, False)])
def test_auto_means_console_on_a_terminal_and_json_elsewhere(out, is_json):
    stream = out()
    configure(LogSettings(format="auto"), stream)

    get_logger("x").info("hello")

    assert is_json == stream.getvalue().startswith("{")


def test_the_console_shows_message_and_fields(stream):
    configure(LogSettings(format="console"), stream)

    get_logger("x").warning("bad", topic="a", n=2, error=DecodeError("empty", "no value"))

    line = stream.getvalue()
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d WARNING bad error.code=empty kafka.topic=a n=2\n    no value\n", line
    )


def test_the_console_escapes_what_a_terminal_would_obey(stream):
    configure(LogSettings(format="console"), stream)

    get_logger("x").info("a\x1b[31mb\r\nc", topic="\u202e\x9b", error="d\x07\ne")

    assert "a\\x1b[31mb\\r\\nc kafka.topic=\\u202e\\x9b\n    d\\x07\n    e\n" in stream.getvalue()


def test_a_line_of_json_escapes_what_a_terminal_would_obey(log, stream):
    hostile = "a\x1b]0;owned\x07\r\nb\u202e\u2028\x85\x9b"

    get_logger("x").info(hostile, topic=hostile, error=hostile)

    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    assert hostile == json.loads(line)["message"]


def test_printable_text_stays_as_it_is():
    assert "Zoë 日本 ok" == printable("Zoë 日本 ok")


def test_a_value_that_has_no_json_does_not_lose_the_line(log, stream):
    log.info("\ud800", n=2**70, items=[object], more={1})

    (line,) = lines(stream)
    assert ("?", str(2**70)) == (line["message"], line["firstseen.n"])


def test_a_field_named_like_a_secret_is_masked(log, stream):
    log.info("x", sasl_password="p", api_token="t")

    assert '"p"' not in stream.getvalue()
    assert '"t"' not in stream.getvalue()


# --- repeats


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def record(level=logging.WARNING, **fields):
    return logging.LogRecord("x", level, "p", 1, fields or "text", None, None)


def test_one_of_a_kind_passes_in_ten_seconds_and_the_next_tells_how_many_did_not():
    clock = Clock()
    limit = RepeatLimit(clock=clock)

    passed = []
    for moment in (0.0, 1.0, 9.9, 10.0, 10.5, 30.0):
        clock.now = moment
        item = record(action="a", error=DecodeError("empty", "x"))
        passed.append(item.suppressed if limit.filter(item) else None)

    assert [0, None, None, 2, None, 1] == passed


def test_kinds_differ_in_action_code_and_rule():
    limit = RepeatLimit(clock=Clock())
    kinds = [
        {"action": "a"},
        {"action": "b"},
        {"action": "a", "code": "c"},
        {"action": "a", "error": DecodeError("empty", "x")},
        {"action": "a", "error": ValueError()},
        {"action": "a", "rule_id": "r"},
    ]

    assert [True] * 6 + [False] * 6 == [limit.filter(record(**kind)) for kind in kinds * 2]


def test_lines_of_libraries_repeat_by_their_text():
    limit = RepeatLimit(clock=Clock())

    assert [True, False] == [limit.filter(record()) for _ in range(2)]


def test_changes_of_state_are_never_held_back():
    limit = RepeatLimit(clock=Clock())

    assert [True, True] == [limit.filter(record(logging.INFO, action="a")) for _ in range(2)]


def test_kinds_that_are_over_are_forgotten():
    clock = Clock()
    limit = RepeatLimit(clock=clock)
    for number in range(1000):
        clock.now = 11.0 * number
        limit.filter(record(action=f"a{number}"))

    assert 1 == len(limit._kinds)


def test_kinds_that_held_something_back_are_bounded_too():
    limit = RepeatLimit(clock=Clock())
    for number in range(3000):
        limit.filter(record(action=f"a{number}"))
        limit.filter(record(action=f"a{number}"))

    assert len(limit._kinds) <= 1024


def test_threads_may_log_at_once():
    limit = RepeatLimit(seconds=0.0)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def log(thread: int) -> int:
        return sum(limit.filter(record(action=f"{thread} {n % 7}")) for n in range(3000))

    try:
        with ThreadPoolExecutor(3) as pool:
            assert [3000] * 3 == list(pool.map(log, range(3)))
    finally:
        sys.setswitchinterval(before)


def test_held_back_lines_are_told_in_the_log(stream, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(
        "pipeline.telemetry.logging.RepeatLimit.__init__.__defaults__", (10.0, clock)
    )
    configure(LogSettings(format="json"), stream)
    log = get_logger("x")

    for moment in (0.0, 1.0, 11.0):
        clock.now = moment
        log.warning("w", action="a")

    assert [None, 1] == [line.get("firstseen.suppressed") for line in lines(stream)]


# --- the list of actions


def test_actions_are_listed_once_in_snake_case():
    actions = [event.action for event in LOG_EVENTS]

    assert len(set(actions)) == len(actions)
    assert [] == [action for action in actions if not re.fullmatch(r"[a-z][a-z0-9_]*", action)]


def test_every_action_in_the_code_is_listed_with_its_level_and_every_listed_one_is_used():
    used = set()
    for path in Path(pipeline.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            level = node.func.attr
            if level not in {"debug", "info", "warning", "error", "exception"}:
                continue
            for keyword in node.keywords:
                if keyword.arg == "action" and isinstance(keyword.value, ast.Constant):
                    used.add((keyword.value.value, "error" if level == "exception" else level))

    assert {(event.action, event.level) for event in LOG_EVENTS} == used
