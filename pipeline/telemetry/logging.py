"""Structured logs with ECS field names, to standard error.

In ``log.info("stopped", action="worker_stopped", topic=...)``, the message is fixed text, values go
into fields, and `action` is one of `pipeline.telemetry.log_events`. What Faust, mode, aiokafka and
librdkafka log through the standard library takes the same path.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson
import structlog

from pipeline import __version__
from pipeline.config import LogSettings
from pipeline.errors import FirstseenError, RecordError
from pipeline.terminal import printable, printable_json

ECS_VERSION = "8.11.0"
REPEAT_SECONDS = 10.0
_MAX_KINDS = 1_024

# Their own state changes are of no use to an operator: our logs report the same in our words.
_QUIET_LIBRARIES = ("aiokafka", "faust", "mode", "asyncio", "aiohttp.access", "kafka")

_FIELDS = {
    "action": "event.action",
    "code": "error.code",
    "rule_id": "rule.id",
    "topic": "kafka.topic",
    "partition": "kafka.partition",
    "offset": "kafka.offset",
}
_SECRET_WORDS = ("password", "secret", "token", "credential")
_LEVELS = {"warn": "warning", "exception": "error", "critical": "error"}

EventDict = MutableMapping[str, Any]


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger; safe at import time, as it looks up its settings on first use."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send all logs of the process to one stream; may be called again.

    Args:
        settings: level and format.
        stream: the stream; by default, standard error.
    """
    stream = sys.stderr if stream is None else stream
    level = getattr(logging, settings.level.upper())
    is_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    handler = _Handler(stream, is_json=is_json)
    handler.addFilter(RepeatLimit())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name],
            processors=[_add_suppressed, _to_ecs, _render_json if is_json else _render_console],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, _Handler):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def writes_json() -> bool:
    """Whether logs are JSON; False before `configure`."""
    return any(isinstance(each, _Handler) and each.is_json for each in logging.getLogger().handlers)


class _Handler(logging.StreamHandler[TextIO]):
    """The handler of `configure`."""

    def __init__(self, stream: TextIO, *, is_json: bool) -> None:
        super().__init__(stream)
        self.is_json = is_json


class RepeatLimit(logging.Filter):
    """Lets one warning or error of a kind through per 10 s, so that no fault fills the disk.

    Lines of our loggers are of the same kind if they have the same logger, action, error code and
    rule. Other lines are of the same kind if they have the same logger and text. The next line of a
    kind says in ``suppressed`` how many were held back, unless `_MAX_KINDS` other kinds came in
    between. Only warnings and errors are held back.
    """

    def __init__(
        self, seconds: float = REPEAT_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._seconds = seconds
        self._clock = clock
        self._kinds: dict[tuple[object, ...], tuple[float, int]] = {}
        self._lock = threading.Lock()  # the loop, the consumer's thread and backfills all log

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        with self._lock:
            return self._admits(record)

    def _admits(self, record: logging.LogRecord) -> bool:
        kind, now = _kind(record), self._clock()
        until, held = self._kinds.get(kind, (now, 0))
        if now < until:
            self._kinds[kind] = (until, held + 1)
            return False
        self._forget(now)
        self._kinds[kind] = (now + self._seconds, 0)
        record.suppressed = held
        return True

    def _forget(self, now: float) -> None:
        # Kinds that are due and held nothing back have nothing left to report.
        due = [kind for kind, (until, held) in self._kinds.items() if now >= until and not held]
        for kind in due:
            del self._kinds[kind]
        while len(self._kinds) >= _MAX_KINDS:
            del self._kinds[next(iter(self._kinds))]


def _kind(record: logging.LogRecord) -> tuple[object, ...]:
    if isinstance(record.msg, dict):
        fields: Mapping[str, Any] = record.msg
        code = fields.get("code") or _code_of(fields.get("error"))
        what = fields.get("action") or fields.get("event")
        return (record.name, what, code, fields.get("rule_id"))
    return (record.name, str(record.msg))


def _code_of(error: object) -> str | None:
    if isinstance(error, RecordError):
        return error.reason
    if isinstance(error, FirstseenError):
        return error.code
    return type(error).__name__ if isinstance(error, BaseException) else None


def _add_suppressed(_: Any, __: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event.pop("_record")
    event.pop("_from_structlog", None)
    event["_created"] = record.created
    if held := getattr(record, "suppressed", 0):
        event["suppressed"] = held
    if record.exc_info and "exc_info" not in event:
        event["exc_info"] = record.exc_info
    return event


def _to_ecs(_: Any, __: str, event: EventDict) -> EventDict:
    level = event.pop("level", "info")
    created = datetime.fromtimestamp(event.pop("_created"), UTC)
    ecs: dict[str, Any] = {
        "@timestamp": created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "log.level": _LEVELS.get(level, level),
        "message": str(event.pop("event", "")),
        "ecs.version": ECS_VERSION,
        "log.logger": event.pop("logger", None),
        "service.name": "firstseen",
        "service.version": __version__,
        "service.node.name": socket.gethostname(),
    }
    exc_info = event.pop("exc_info", None)
    error = event.pop("error", None)
    if exc_info:
        error = _exception_of(exc_info) or error
    if isinstance(error, BaseException):
        ecs |= _error_fields(error, with_stack=bool(exc_info))
    elif error is not None:
        ecs["error.message"] = str(error)
    for name, value in event.items():
        ecs[_FIELDS.get(name, f"firstseen.{name}")] = _value(name, value)
    return ecs


def _exception_of(exc_info: object) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    found = exc_info[1] if isinstance(exc_info, tuple) else sys.exc_info()[1]
    return found if isinstance(found, BaseException) else None


def _error_fields(error: BaseException, *, with_stack: bool) -> dict[str, str]:
    fields = {"error.type": type(error).__qualname__, "error.message": str(error)}
    if isinstance(error, FirstseenError):
        fields["error.code"] = _code_of(error) or error.code
    # Our own errors say what to do; the place where one was raised helps only with other errors.
    if with_stack or not isinstance(error, FirstseenError):
        fields["error.stack_trace"] = "".join(traceback.format_exception(error)).rstrip()
    return fields


def _value(name: str, value: object) -> object:
    if any(word in name.lower() for word in _SECRET_WORDS):
        return "********"
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_value("", item) for item in value]
    return str(value)


def _render_json(_: Any, __: str, event: EventDict) -> str:
    # JSON cannot hold lone surrogates and huge integers: they are replaced, so no line is lost.
    try:
        line = orjson.dumps(event).decode()
    except TypeError:
        line = orjson.dumps({key: _encodable(value) for key, value in event.items()}).decode()
    return printable_json(line)


def _encodable(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode()


_NOT_ON_CONSOLE = frozenset(
    {
        "@timestamp",
        "log.level",
        "log.logger",
        "message",
        "ecs.version",
        "event.action",
        "error.type",
        "error.message",
        "error.stack_trace",
        "service.name",
        "service.version",
        "service.node.name",
    }
)


def _render_console(_: Any, __: str, event: EventDict) -> str:
    parts = [event["@timestamp"][11:19], event["log.level"].upper().ljust(7), event["message"]]
    parts += [
        f"{name.removeprefix('firstseen.')}={value}"
        for name, value in event.items()
        if name not in _NOT_ON_CONSOLE
    ]
    line = printable(" ".join(parts))
    if "error.message" in event:
        line += "\n" + _indent(event["error.message"])
    if "error.stack_trace" in event:
        line += "\n" + _indent(event["error.stack_trace"])
    return line


def _indent(text: str) -> str:
    return "\n".join(f"    {printable(line)}" for line in text.splitlines())
