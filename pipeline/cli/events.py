"""Lines of event files, decoded in the same way as the engine decodes records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.engine.decode import DecodeLimits, decode
from pipeline.errors import DecodeError
from pipeline.replay import read_events


class Line(NamedTuple):
    """A line, numbered from 1, with its events; `error` if it holds something else."""

    number: int
    value: bytes
    events: tuple[dict[str, Any], ...]
    error: DecodeError | None


def read_lines(paths: Sequence[Path]) -> Iterator[Line]:
    """Read and decode every line.

    Raises:
        EventsFileError: a file cannot be read or decompressed.
    """
    limits = DecodeLimits()
    for _, number, value in read_events(paths):
        decoded = decode(value, limits)
        events = tuple(document.event for document in decoded.documents)
        yield Line(number, value, events, decoded.error)
