"""Programs that load the engine: an event of each, and which of them were told as new."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from confluent_kafka import Message

from tests.deployment import Deployment
from tests.events import START, encode, library_event


def program(number: int, executable: str, *, host: str = "h1", **later: float) -> bytes:
    """Return an event of a program; `later` is how long after `START`, as `timedelta` takes it."""
    at = START + timedelta(**later)
    return encode(library_event(number=number, executable=executable, at=at, host=host))


def executable_of(alert: dict[str, Any]) -> str | None:
    """Return the program that an alert tells as new; None for a summary."""
    for term in alert["detection"].get("new_terms", ()):
        if term["field"] == "process.executable":
            return str(term["value"])
    return None


def executables(messages: Iterable[Message]) -> list[str]:
    """Return the program of each alert, summaries left out."""
    found = (executable_of(json.loads(message.value())) for message in messages)
    return [executable for executable in found if executable is not None]


def told(stack: Deployment) -> Counter[str]:
    """How often each program was told as new, within the quota and beyond it."""
    return Counter(executables([*stack.read("alerts"), *stack.read("overflow")]))
