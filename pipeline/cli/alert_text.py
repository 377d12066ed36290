"""Formats an alert as a block of lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from pipeline.rules.timestamp import parse_timestamp
from pipeline.terminal import printable

_COLOURS = {"low": "blue", "medium": "yellow", "high": "red", "critical": "magenta"}
_SHOWN_CHARACTERS = 300
_NEAR_MS = 60_000
_FIELDS_SHOWN = frozenset({"host.name", "host.id", "user.id", "process.executable", "dll.path"})
"""Fields that have a line of their own wherever an event has them."""


def alert_text(alert: dict[str, Any]) -> str:
    """Return what an analyst asks first: which rule, where, who, what, and why it is an alert.

    Every value is made safe to print. Click strips the colours where nobody sees them.
    """
    severity = _get(alert, "labels", "severity") or "unknown"
    colour = _COLOURS.get(severity, "white")
    head = (
        f"{click.style(f'● {severity}', fg=colour, bold=True)}  "
        f"{click.style(_get(alert, 'rule', 'name') or 'a rule without a name', bold=True)}  "
        f"{_get(alert, '@timestamp')}"
    )
    facts = [f"  {click.style(f'{name:<8}', dim=True)} {value}" for name, value in _facts(alert)]
    return "\n".join([head, *facts])


def _facts(alert: dict[str, Any]) -> Iterator[tuple[str, str]]:
    facts = {
        "host": _with(_get(alert, "host", "name"), _get(alert, "host", "id")),
        "user": _with(_user(alert), _get(alert, "user", "id")),
        "process": _process(alert),
        "library": _get(alert, "dll", "path") or _get(alert, "dll", "name"),
        "why": _why(alert),
        "new": _new_terms(alert),
        "time": _time(alert),
        "threat": _threat(alert),
        "source": _source(alert),
        "alert": _get(alert, "event", "id"),
    }
    for name, value in facts.items():
        if value:
            yield name, value


def _user(alert: dict[str, Any]) -> str:
    domain, name = _get(alert, "user", "domain"), _get(alert, "user", "name")
    return f"{domain}\\{name}" if domain and name else name


def _process(alert: dict[str, Any]) -> str:
    executable = _get(alert, "process", "executable") or _get(alert, "process", "name")
    pid = _get(alert, "process", "pid")
    signer = _get(alert, "process", "code_signature", "subject_name")
    shown = _with(executable, f"pid {pid}" if pid else "")
    return f"{shown}, signed by {signer}" if shown and signer else shown


def _threat(alert: dict[str, Any]) -> str:
    tactic = _with(_get(alert, "threat", "tactic", "name"), _get(alert, "threat", "tactic", "id"))
    technique = _get(alert, "threat", "technique", "id")
    sub = _get(alert, "threat", "technique", "subtechnique", "id")
    return " / ".join(part for part in (tactic, technique, sub) if part)


def _why(alert: dict[str, Any]) -> str:
    """Return what is new. The terms themselves are in the lines around it."""
    terms = _get_raw(alert, "detection", "new_terms")
    if not isinstance(terms, list):
        return _get(alert, "event", "reason") or _get(alert, "message")
    fields = " + ".join(_get(term, "field") or _get(term, "value") for term in terms)
    window = _get(alert, "detection", "first_seen", "window")
    previous = _get(alert, "detection", "first_seen", "previous")
    before = f"; last seen {previous}" if previous else ""
    if _get_raw(alert, "detection", "first_seen", "remembered") is False:
        before = ", unless alerted before: the rule is full"
    return f"first time in {window} of this {fields}{before}"


def _new_terms(alert: dict[str, Any]) -> str:
    """Return the terms that no other line shows as they are: a rule may look at any field."""
    terms = _get_raw(alert, "detection", "new_terms")
    shown = []
    for term in terms if isinstance(terms, list) else ():
        field, value = _get(term, "field"), _get(term, "value") or '""'
        has_own_line = field in _FIELDS_SHOWN and value == _get(alert, *field.split("."))
        if field and _get_raw(term, "value") is not None and not has_own_line:
            shown.append(f"{field} {value}")
    return ", ".join(shown)


def _time(alert: dict[str, Any]) -> str:
    """Return the event's time if it is capped, its record's, or a minute from the alert's."""
    time = _get(alert, "detection", "event_time")
    if _get_raw(alert, "detection", "event_time_capped") is True:
        return _with(time, "at most: the event is dated in the future")
    if _get_raw(alert, "detection", "event_time_source") == "record":
        return _with(time, "of its record: the event has no usable time")
    return "" if _is_near(time, _get(alert, "@timestamp")) else time


def _is_near(time: str, other: str) -> bool:
    time_ms, other_ms = parse_timestamp(time), parse_timestamp(other)
    return time_ms is not None and other_ms is not None and abs(time_ms - other_ms) < _NEAR_MS


def _source(alert: dict[str, Any]) -> str:
    topic = _get(alert, "detection", "source", "topic")
    if not topic:
        return ""
    partition = _get(alert, "detection", "source", "partition")
    return f"{topic}[{partition}]@{_get(alert, 'detection', 'source', 'offset')}"


def _with(value: str, extra: str) -> str:
    return f"{value} ({extra})" if value and extra else value or extra


def _get_raw(document: Any, *path: str) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _get(document: Any, *path: str) -> str:
    """Return the value at a path as safe text: lists are joined, a missing value is empty."""
    value = _get_raw(document, *path)
    if value is None:
        return ""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return printable(cut)
