"""One sentence about an event, for someone who sees only the title line of an alert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

Fields: TypeAlias = Mapping[str, Sequence[Any]]
"""The values of an event by field, see `pipeline.engine.paths.scalars_at`."""

_LIMIT = 300

_PROCESS = "process.executable", "process.name"
_PARENT = "process.parent.executable", "process.parent.name"
_DLL = "dll.path", "dll.name"
_FILE = "file.path", "file.name"
_USER = "user.name", "user.id"
_DOMAIN = ("user.domain",)
_HOST = "host.name", "host.hostname", "host.id"
_ACTION = ("event.action",)
_CATEGORY = ("event.category",)
_SOURCE = ("source.ip",)
_DESTINATION = ("destination.ip",)

REASON_FIELDS: Final = frozenset(
    (
        *(*_PROCESS, *_PARENT, *_DLL, *_FILE, *_USER, *_DOMAIN, *_HOST),
        *(*_ACTION, *_CATEGORY, *_SOURCE, *_DESTINATION),
    )
)
"""The fields that `describe_event` reads."""


def describe_event(event: Fields) -> str:
    """Return who did what, and where, using the parts that the event has.

    ``process X loaded DLL Y by user U on host H`` if there is a process and a DLL, otherwise
    ``<category> event with process X, file F, source address S by user U on host H``.
    """
    process = _first(event, _PROCESS)
    dll = _first(event, _DLL)
    if process and dll:
        sentence = f"process {process} loaded DLL {dll}"
    else:
        sentence = _general(event, process, dll)
    user = _first(event, _USER)
    if user:
        domain = _first(event, _DOMAIN)
        sentence += f" by user {domain}\\{user}" if domain else f" by user {user}"
    host = _first(event, _HOST)
    return f"{sentence} on host {host}" if host else sentence


def _general(event: Fields, process: str, dll: str) -> str:
    parts = (
        ("action", _first(event, _ACTION)),
        ("process", process),
        ("parent process", _first(event, _PARENT)),
        ("DLL", dll),
        ("file", _first(event, _FILE)),
        ("source address", _first(event, _SOURCE)),
        ("destination address", _first(event, _DESTINATION)),
    )
    named = ", ".join(f"{name} {value}" for name, value in parts if value)
    category = _first(event, _CATEGORY)
    start = f"{category} event" if category else "event"
    return f"{start} with {named}" if named else start


def _first(event: Fields, paths: Sequence[str]) -> str:
    """Return the first value of the first field that has one, as text; '' if none has."""
    for path in paths:
        if values := event.get(path):
            return str(values[0])[:_LIMIT]
    return ""
