"""Effective time: when an event counts as having happened.

It is defined as in Kibana's detection engine (``timestamp_override``): the override field if the
event has it, otherwise ``@timestamp``, unless the rule forbids the fallback. ``event.ingested``,
the override of Elastic's own rules, is set by Elasticsearch and absent on Kafka, so there the time
is usually ``@timestamp``. An event without a usable time of its own takes that of its record, see
`pipeline.engine.match`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

from pipeline.errors import TimestampError
from pipeline.kql import Memo
from pipeline.kql.dates import epoch_ms
from pipeline.kql.fields import as_dict, as_list, scalar_reader
from pipeline.types import Event

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MIN_MS: Final = -62_135_596_800_000
"""0001-01-01T00:00:00Z."""
MAX_MS: Final = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z."""
EARLIEST_MS: Final = 315_532_800_000
"""1980-01-01T00:00:00Z: no event is older. An earlier date comes from a field that nobody set
(clocks start counting in the years 1, 1601 and 1970), or from seconds that were read as
milliseconds."""

TIMESTAMP: Final = "@timestamp"
_MILLISECOND = timedelta(milliseconds=1)
_LOOSE_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(?::(\d\d)([.,]\d{1,9})?)?"
    r"\s?([Zz]|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_MINUTE = re.compile(r"\d{4}-\d\d-\d\d[Tt ](?:[01]\d|2[0-3]):[0-5]\d:", re.ASCII)


def parse_timestamp(value: Any) -> int | None:
    """Return the epoch milliseconds that a JSON value stands for, or None if it is not a time.

    Accepts what a field of type date accepts in queries (`pipeline.kql.dates`). To avoid losing the
    time of an event over its spelling, it also accepts a space in place of the T or before the
    zone, lower-case letters, and a leap second, which counts as the second after it.
    """
    is_text = type(value) is str
    if is_text and (usual := _usual(value)) is not None:
        return usual
    time_ms = epoch_ms(value)
    if time_ms is None and is_text:
        time_ms = _loose(value)
    return time_ms if time_ms is not None and MIN_MS <= time_ms <= MAX_MS else None


class EffectiveTime(NamedTuple):
    """When an event counts as having happened.

    Attributes:
        time_ms: epoch milliseconds.
        source: the field it is from, or ``record``.
    """

    time_ms: int
    source: str


def is_usable(time_ms: int) -> bool:
    """Whether an event can have happened then. Kafka's -1 (*no timestamp*) is not usable."""
    return time_ms >= EARLIEST_MS


def format_timestamp(time_ms: int) -> str:
    """Return epoch milliseconds as ``2024-05-01T12:00:00.000Z``."""
    second, milliseconds = divmod(min(max(time_ms, MIN_MS), MAX_MS), 1000)
    return f"{_second(second)}.{milliseconds:03d}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return (EPOCH + timedelta(seconds=seconds)).isoformat().removesuffix("+00:00")


def effective_time(
    event: Event, override: str | None, *, fallback: bool, memo: Memo | None = None
) -> EffectiveTime:
    """Return the effective time of an event: that of the first field with a usable one.

    If a field has several values, the earliest counts, as in a sort on doc values.

    Args:
        event: the event.
        override: the rule's ``timestamp_override``, or None.
        fallback: whether ``@timestamp`` counts if the override field has no usable time.
        memo: what is known of the event, so that a field is read once for all rules.

    Raises:
        TimestampError: ``missing_timestamp`` if the event has none of the fields;
            ``invalid_timestamp`` if what it has is not a time, or is before `EARLIEST_MS`.
    """
    names = [override or TIMESTAMP]
    if fallback and names[0] != TIMESTAMP:
        names.append(TIMESTAMP)
    unusable = None
    for name in names:
        raw = _values(event, name, memo)
        if raw is None:
            continue
        time_ms = _earliest(raw, name, memo)
        if time_ms is not None:
            return EffectiveTime(time_ms, name)
        unusable = raw
    if unusable is None:
        raise TimestampError("missing_timestamp", f"the event has no {names[-1]}")
    shown = str(as_list(unusable)[0])[:200]
    raise TimestampError("invalid_timestamp", f"not the time of an event: {shown!r}")


def _earliest(raw: Any, name: str, memo: Memo | None) -> int | None:
    """Return the earliest of a field's values that can be the time of an event."""
    if type(raw) is not list:
        return usable_time(raw)
    key = "times", name
    if memo is not None and key in memo:
        known: int | None = memo[key]
        return known
    usable = [time_ms for value in raw if (time_ms := usable_time(value)) is not None]
    found = min(usable, default=None)
    if memo is not None:
        memo[key] = found
    return found


def usable_time(value: Any) -> int | None:
    """Return the time that a value stands for, if an event can have that time."""
    time_ms = parse_timestamp(value)
    return time_ms if time_ms is not None and is_usable(time_ms) else None


def _usual(value: str) -> int | None:
    """Return the time of ``2024-05-01T12:00:00.123456789Z``; None if it is written differently.

    Nearly all events use this format, and events that follow one another are mostly of the same
    minute.
    """
    second, fraction = value[17:19], value[20:-1]
    if (
        value[-1:] != "Z"
        or value[19:20] != "."
        or not 3 <= len(fraction) <= 9
        or not (fraction + second).isdecimal()
        or not value.isascii()
        or second >= "60"
    ):
        return None
    minute_ms = _minute_ms(value[:17])
    return None if minute_ms is None else minute_ms + int(second + fraction[:3])


@lru_cache(maxsize=256)
def _minute_ms(text: str) -> int | None:
    """Return the time of ``2024-05-01T12:00:``; None if the text is not of this form."""
    if not _MINUTE.fullmatch(text):
        return None
    try:
        since = datetime.fromisoformat(f"{text[:10]}T{text[11:16]}+00:00") - EPOCH
    except ValueError:  # a day that does not exist
        return None
    return (since.days * 86_400 + since.seconds) * 1000


def _loose(text: str) -> int | None:
    """Read a time with a looser spelling than Elasticsearch accepts, by making it strict."""
    found = _LOOSE_ISO.fullmatch(text)
    if found is None:
        return None
    day, minute, second, fraction, zone = found.groups(default="")
    if second == "60":  # a leap second
        before = epoch_ms(f"{day}T{minute}:59{zone.upper()}")
        return None if before is None else before + 1000
    return epoch_ms(f"{day}T{minute}:{second or '00'}{fraction}{zone.upper()}")


def _values(event: Event, path: str, memo: Memo | None) -> Any:
    return scalar_reader(path)(as_dict(event), memo)
