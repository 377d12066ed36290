"""Durations as text."""

from __future__ import annotations

_UNITS = ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second"))


def duration_text(length_ms: int, *, short: bool = False) -> str:
    """Return a duration in the largest unit that divides it: ``14 days``, or ``14d`` if `short`."""
    for unit_ms, name in _UNITS:
        number, rest = divmod(length_ms, unit_ms)
        if number and not rest:
            if short:
                return f"{number}{name[0]}"
            return f"{number} {name}" if number == 1 else f"{number} {name}s"
    return f"{length_ms}ms" if short else f"{length_ms} ms"
