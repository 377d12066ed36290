"""Values as people write them: durations, sizes and words (``90s``, ``64MiB``, ``Off``)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE = re.compile(r"([0-9]+) ?(B|KiB|MiB|GiB)?")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse_duration(text: object) -> timedelta:
    """Read a duration: a number with one unit of ms, s, m, h, d.

    A number without a unit is refused, because it would be seconds to one reader and milliseconds
    to another.

    Raises:
        ValueError: it is not a duration.
    """
    if isinstance(text, timedelta):
        return text
    if isinstance(text, str) and (found := _DURATION.fullmatch(text.strip())):
        try:
            return timedelta(milliseconds=float(found[1]) * _MILLISECONDS[found[2]])
        except OverflowError:
            raise ValueError("is longer than a duration can be") from None
    raise ValueError("is not a duration: write a number and a unit, like 250ms, 90s, 5m, 24h, 14d")


def milliseconds(duration: timedelta) -> int:
    """Return a duration in milliseconds."""
    return round(duration / timedelta(milliseconds=1))


def format_duration(duration: timedelta) -> str:
    """Write a duration with the largest unit that leaves a whole number."""
    whole = milliseconds(duration)
    for unit, size in reversed(_MILLISECONDS.items()):
        if whole % size == 0 and whole:
            return f"{whole // size}{unit}"
    return f"{whole}ms"


def parse_size(text: object) -> int:
    """Read a size in bytes: a whole number, alone or with one of B, KiB, MiB, GiB.

    Raises:
        ValueError: it is not a size.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    if isinstance(text, str) and (found := _SIZE.fullmatch(text.strip())):
        return int(found[1]) * _BYTES[found[2] or "B"]
    raise ValueError("is not a size: write bytes, or a number with KiB, MiB or GiB, like 64MiB")


def format_size(size: int) -> str:
    """Write a size with the largest unit that leaves a whole number."""
    for unit, factor in reversed(_BYTES.items()):
        if size % factor == 0 and size and factor > 1:
            return f"{size // factor}{unit}"
    return str(size)


def lower_case(value: object) -> object:
    """Return a text in lower case, and anything else as it is."""
    return value.lower() if isinstance(value, str) else value


class SizeUnit:
    """Marks a setting as a size, so that it is shown as ``64MiB``."""


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size), SizeUnit()]
