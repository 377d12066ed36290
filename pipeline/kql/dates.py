"""Dates as Elasticsearch reads them: ISO texts, epoch milliseconds, date math; all in UTC.

The format is `strict_date_optional_time||epoch_millis`. A date field has a resolution of
milliseconds; further digits are dropped. A literal may leave parts out (``2024-01``) or be date
math (``now-1d/d``, ``2024-01-01||+1M``). As a bound, it is then rounded down for ``>=`` and ``<``,
and up to the last millisecond for ``<=`` and ``>``. A month or a day that is left out is the first
in both cases: ``2024-01`` is a day, as ``2024-01-01`` is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias

Clock: TypeAlias = Callable[[], int]
"""Returns the present time in epoch milliseconds."""

_DAY = 86_400_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC, microsecond=999_000)
_MILLISECOND = timedelta(milliseconds=1)
_LONG = 2**63

_ISO = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(?:(\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?"
    r"(Z|[+-]\d\d(?::?\d\d)?)?)?)?)?)?",
    re.ASCII,
)
_EPOCH_MILLIS = re.compile(r"(-?\d{1,19})(?:\.\d{1,6})?", re.ASCII)
_STEP = re.compile(r"([+-])(\d{0,9})([yMwdhHms])|/([yMwdhHms])", re.ASCII)
_SPAN = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "H": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}


def epoch_ms(value: object) -> int | None:
    """Return the time that a JSON value of a date field stands for, or None if it is not a date."""
    if type(value) is str:
        return _read(value, up=False)
    if type(value) is int:
        return value if -_LONG <= value < _LONG else None
    if type(value) is float and -_LONG <= value < _LONG:
        return int(value)
    return None


@dataclass(frozen=True, slots=True)
class DateBound:
    """A date literal as one end of a range.

    Attributes:
        anchor_ms: the time it starts from; None stands for `now`.
        steps: date math to apply: (amount, unit), or (None, unit) for rounding.
        up: whether to round up to the last millisecond.
    """

    anchor_ms: int | None
    steps: tuple[tuple[int | None, str], ...]
    up: bool

    def at(self, now_ms: int) -> int:
        """Return the bound in epoch milliseconds; date math stays within the years 1 to 9999."""
        anchor = now_ms if self.anchor_ms is None else self.anchor_ms
        if not self.steps:
            return anchor
        moment = _clamped(_EPOCH, timedelta(milliseconds=1), anchor)
        for amount, unit in self.steps:
            if amount is None:
                moment = _rounded(moment, unit, up=self.up)
            else:
                moment = _moved(moment, amount, unit)
        return (moment - _EPOCH) // _MILLISECOND


def date_bound(text: str, *, up: bool) -> DateBound | None:
    """Read a date literal; None if it is not a date."""
    if text.startswith("now"):
        anchor, math = None, text[3:]
    else:
        head, bars, math = text.partition("||")
        anchor = _read(head, up=up and not bars)
        if anchor is None:
            return None
    steps = _steps(math)
    return None if steps is None else DateBound(anchor, steps, up)


def _steps(math: str) -> tuple[tuple[int | None, str], ...] | None:
    steps: list[tuple[int | None, str]] = []
    position = 0
    while position < len(math):
        step = _STEP.match(math, position)
        if step is None:
            return None
        sign, digits, unit, rounding = step.groups()
        if rounding:
            steps.append((None, rounding))
        else:
            amount = int(digits or 1)
            steps.append((-amount if sign == "-" else amount, unit))
        position = step.end()
    return tuple(steps)


def _read(text: str, *, up: bool) -> int | None:
    iso = _ISO.fullmatch(text)
    if iso is not None:
        return _from_iso(iso, up=up)
    number = _EPOCH_MILLIS.fullmatch(text)
    if number is None:
        return None
    moment = int(number.group(1))
    return moment if -_LONG <= moment < _LONG else None


def _from_iso(iso: re.Match[str], *, up: bool) -> int | None:
    year, month, day, hour, minute, second, fraction, zone = iso.groups()
    h, m, s = int(hour or 0), int(minute or 0), int(second or 0)
    offset = _offset_minutes(zone)
    if h > 23 or m > 59 or s > 59 or offset is None:
        return None
    try:
        days = date(int(year), int(month or 1), int(day or 1)).toordinal() - _EPOCH_DAY
    except ValueError:  # no such day
        return None
    ms = int((fraction or "0").ljust(3, "0")[:3])
    start = days * _DAY + ((h * 60 + m - offset) * 60 + s) * 1000 + ms
    if not up or fraction:
        return start
    if hour is None:
        return start + _DAY - 1
    return start + (1000 if second else 60_000 if minute else 3_600_000) - 1


def _offset_minutes(zone: str | None) -> int | None:
    if zone is None or zone == "Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
    if hours > 18 or minutes > 59:
        return None
    return (hours * 60 + minutes) * (-1 if zone[0] == "-" else 1)


def _clamped(moment: datetime, unit: timedelta, amount: int) -> datetime:
    try:
        return moment + unit * amount
    except OverflowError:
        return _LAST if amount > 0 else _FIRST


def _moved(moment: datetime, amount: int, unit: str) -> datetime:
    if unit in _SPAN:
        return _clamped(moment, _SPAN[unit], amount)
    months = moment.year * 12 + moment.month - 1 + amount * (12 if unit == "y" else 1)
    year, month = divmod(months, 12)
    if year < 1:
        return _FIRST
    if year > 9999:
        return _LAST
    # The 31st becomes the last day of a shorter month.
    for day in range(moment.day, 27, -1):
        try:
            return moment.replace(year=year, month=month + 1, day=day)
        except ValueError:
            continue
    return moment.replace(year=year, month=month + 1)


def _rounded(moment: datetime, unit: str, *, up: bool) -> datetime:
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    down = {
        "y": midnight.replace(month=1, day=1),
        "M": midnight.replace(day=1),
        "w": _clamped(midnight, timedelta(days=1), -midnight.weekday()),
        "d": midnight,
        "h": moment.replace(minute=0, second=0, microsecond=0),
        "H": moment.replace(minute=0, second=0, microsecond=0),
        "m": moment.replace(second=0, microsecond=0),
        "s": moment.replace(microsecond=0),
    }[unit]
    return _clamped(_moved(down, 1, unit), _MILLISECOND, -1) if up else down
