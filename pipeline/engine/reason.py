"""One sentence about an event, for a person who has only the alert's title line."""

from __future__ import annotations

from pipeline.engine.paths import leaves
from pipeline.types import Event

_LIMIT = 300


def describe_event(event: Event) -> str:
    """Return who did what, where, with the parts the event has.

    ``process X loaded DLL Y by user U on host H`` for a library event, else ``<category> event
    with process X, file F, source address S by user U on host H``.
    """
    process = _first(event, "process.executable", "process.name")
    dll = _first(event, "dll.path", "dll.name")
    if process and dll:
        sentence = f"process {process} loaded DLL {dll}"
    else:
        sentence = _general(event, process, dll)
    user = _first(event, "user.name", "user.id")
    if user:
        domain = _first(event, "user.domain")
        sentence += f" by user {domain}\\{user}" if domain else f" by user {user}"
    host = _first(event, "host.name", "host.hostname", "host.id")
    return f"{sentence} on host {host}" if host else sentence


def _general(event: Event, process: str, dll: str) -> str:
    parts = (
        ("action", _first(event, "event.action")),
        ("process", process),
        ("parent process", _first(event, "process.parent.executable", "process.parent.name")),
        ("DLL", dll),
        ("file", _first(event, "file.path", "file.name")),
        ("source address", _first(event, "source.ip")),
        ("destination address", _first(event, "destination.ip")),
    )
    named = ", ".join(f"{name} {value}" for name, value in parts if value)
    category = _first(event, "event.category")
    start = f"{category} event" if category else "event"
    return f"{start} with {named}" if named else start


def _first(event: Event, *paths: str) -> str:
    """Return the first value at the first of the paths that has one, as text; else ''."""
    for path in paths:
        for value in leaves(event, path):
            return str(value)[:_LIMIT]
    return ""
