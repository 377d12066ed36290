"""The two ways in which a rule writes a duration: ``5m``, and ``now-14d``."""

from __future__ import annotations

import re

_MILLISECONDS = {
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "H": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
# Nine digits of weeks still fit into a signed 64-bit number of milliseconds.
_INTERVAL = re.compile(r"([0-9]{1,9})([smhdw])")
_RELATIVE = re.compile(r"now(?:-([0-9]{1,9})([smhHdw]))?")


def parse_interval(text: str) -> int | None:
    """Return the milliseconds of an interval such as ``5m``; None if it is not one, or is zero."""
    found = _INTERVAL.fullmatch(text)
    if found is None:
        return None
    return int(found[1]) * _MILLISECONDS[found[2]] or None


def parse_relative(text: str) -> int | None:
    """Return how many milliseconds ``now-<number><unit>`` is before now; None for anything else.

    ``now`` is 0. The units are those of Elasticsearch date math that have a fixed length: s, m, h,
    H, d, w. Months and years have none, and rounding (``now-7d/d``) needs a clock, so these are
    refused.
    """
    found = _RELATIVE.fullmatch(text)
    if found is None:
        return None
    if found[1] is None:
        return 0
    return int(found[1]) * _MILLISECONDS[found[2]]
