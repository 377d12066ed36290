"""What an alert copies from its event: the entities involved, and the values to pivot on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.types import Event

ENTITIES: Final = frozenset(
    {
        "agent",
        "client",
        "cloud",
        "container",
        "destination",
        "dll",
        "dns",
        "file",
        "group",
        "host",
        "network",
        "observer",
        "orchestrator",
        "organization",
        "process",
        "registry",
        "server",
        "service",
        "source",
        "url",
        "user",
        "user_agent",
    }
)
"""ECS field sets that are copied as a whole."""

_RELATED: Final = {
    "hosts": ("host.name", "host.hostname", "host.id"),
    "user": ("user.name", "user.id"),
    "ip": ("source.ip", "destination.ip", "host.ip"),
    "hash": tuple(
        f"{thing}.hash.{algorithm}"
        for thing in ("process", "dll", "file")
        for algorithm in ("sha256", "sha1", "md5")
    ),
}

RELATED_FIELDS: Final = frozenset(path for paths in _RELATED.values() for path in paths)
"""The fields that `related` reads."""

MAX_CHARACTERS: Final = 8_191
"""Longer texts are truncated in an alert, except in ``event.original``. Lucene accepts no term of
more than 32,766 bytes, and a character has up to four: Elasticsearch would refuse the whole
alert."""


def bounded(value: Any) -> Any:
    """Return a JSON value with all texts truncated to `MAX_CHARACTERS`."""
    if isinstance(value, str):
        return value[:MAX_CHARACTERS]
    if isinstance(value, list):
        return [bounded(item) for item in value]
    if isinstance(value, dict):
        return {key[:MAX_CHARACTERS]: bounded(item) for key, item in value.items()}
    return value


def entities(event: Event) -> dict[str, Any]:
    """Return the event's field sets about the entities involved, in the order of the event.

    A dotted key (``host.name``) stays dotted.
    """
    return {key: value for key, value in event.items() if key.split(".", 1)[0] in ENTITIES}


def related(event: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return ECS ``related``: all hosts, users, addresses and hashes of the event, without repeats.

    Args:
        event: the event's values, by field.
    """
    found: dict[str, list[Any]] = {}
    for name, paths in _RELATED.items():
        values = [value for path in paths for value in event.get(path, ())]
        if values:
            found[name] = list(dict.fromkeys(values))
    return {"related": found} if found else {}
