"""Medians and their spread, percentiles, and honest rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """One figure measured several times.

    Attributes:
        median: the figure that is quoted.
        least: the smallest value.
        most: the largest value.
        mad: median absolute deviation from the median: a spread that one outlier does not move.
        values: all of them, in the order of measuring.
    """

    median: float
    least: float
    most: float
    mad: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value.

        Raises:
            ValueError: there is none.
        """
        if not values:
            raise ValueError("no value to take a median of")
        middle = median(values)
        return cls(
            median=middle,
            least=min(values),
            most=max(values),
            mad=median(abs(value - middle) for value in values),
            values=tuple(values),
        )

    def as_json(self) -> dict[str, object]:
        return {
            "median": significant(self.median),
            "min": significant(self.least),
            "max": significant(self.most),
            "mad": significant(self.mad),
            "values": [significant(value) for value in self.values],
        }


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of the values do not exceed.

    Args:
        ordered: at least one value, ascending.
        percent: above 0, at most 100.
    """
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def significant(value: float, digits: int = 4) -> float:
    """Round to so many significant digits: more of them would claim what was not measured."""
    return float(f"{value:.{digits}g}")
