"""Tests of indexed values that reveal what they test, so that many can be answered together.

Each has `fits`, the test of one value. For many values or many tests, `pipeline.kql.joint_tests`
takes them apart: equal values are looked up, and bounds are compared with the least and greatest
value.
"""

from __future__ import annotations

from abc import ABC
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase, ascii_uppercase
from typing import Any, Protocol, TypeAlias

from pipeline.kql.nodes import Operator

Fits: TypeAlias = Callable[[Any], bool]

_TO_ASCII_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


def ascii_lower(text: str) -> str:
    """Return a text with only its ASCII letters in lower case."""
    return text.translate(_TO_ASCII_LOWER)


class Order(Protocol):
    """Values, at least one, that have an order."""

    @property
    def least(self) -> Any: ...

    @property
    def greatest(self) -> Any: ...

    @property
    def sorted(self) -> Sequence[Any]: ...


class Predicate(ABC):
    """A test of one indexed value.

    Attributes:
        fits: the test.
    """

    fits: Fits

    def __call__(self, value: Any) -> bool:
        return self.fits(value)


def _set_fits(predicate: Predicate, fits: Fits) -> None:
    object.__setattr__(predicate, "fits", fits)


@dataclass(frozen=True)
class Anything(Predicate):
    """Matches whatever is indexed."""

    fits: Fits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _set_fits(self, lambda _: True)


@dataclass(frozen=True)
class Equal(Predicate):
    """Matches one value."""

    value: Any
    fits: Fits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        wanted = self.value
        _set_fits(self, lambda value: bool(value == wanted))


@dataclass(frozen=True)
class AsciiEqual(Predicate):
    """Matches one text, ignoring the case of ASCII letters.

    Attributes:
        text: the text, in lower case.
    """

    text: str
    fits: Fits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        wanted = self.text
        _set_fits(self, lambda value: ascii_lower(value) == wanted)


@dataclass(frozen=True)
class Interval(Predicate):
    """Matches the values between two bounds. Either bound may be missing (None), but not both.

    Attributes:
        low: the lower bound.
        high: the upper bound.
        low_excluded: whether the lower bound itself is excluded.
        high_excluded: whether the upper bound itself is excluded.
    """

    low: Any = None
    high: Any = None
    low_excluded: bool = False
    high_excluded: bool = False
    fits: Fits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _set_fits(self, self._test())

    def _test(self) -> Fits:
        low, high = self.low, self.high
        if high is None:
            return (lambda v: bool(v > low)) if self.low_excluded else (lambda v: bool(v >= low))
        if low is None:
            return (lambda v: bool(v < high)) if self.high_excluded else (lambda v: bool(v <= high))
        is_above = Interval(low, low_excluded=self.low_excluded)
        is_below = Interval(high=high, high_excluded=self.high_excluded)
        if self.low_excluded or self.high_excluded:
            return lambda v: is_above.fits(v) and is_below.fits(v)
        return lambda v: bool(low <= v <= high)

    def meets(self, order: Order) -> bool:
        """Whether one of several values is in the interval."""
        if self.high is None:
            return self.fits(order.greatest)
        if self.low is None:
            return self.fits(order.least)
        values = order.sorted
        first = (bisect_right if self.low_excluded else bisect_left)(values, self.low)
        return first < len(values) and self.fits(values[first])

    def within(self, other: Interval) -> Interval:
        """Return the intersection with another interval."""
        low, low_excluded = self.low, self.low_excluded
        if low is None or (
            other.low is not None and (other.low, other.low_excluded) > (low, low_excluded)
        ):
            low, low_excluded = other.low, other.low_excluded
        high, high_excluded = self.high, self.high_excluded
        if high is None or (
            other.high is not None
            and (other.high, not other.high_excluded) < (high, not high_excluded)
        ):
            high, high_excluded = other.high, other.high_excluded
        return Interval(low, high, low_excluded, high_excluded)


def comparison(operator: Operator, bound: Any) -> Interval:
    """Return a comparison of indexed values with a bound, by Python's order of their type."""
    match operator:
        case "<":
            return Interval(high=bound, high_excluded=True)
        case "<=":
            return Interval(high=bound)
        case ">":
            return Interval(bound, low_excluded=True)
        case ">=":
            return Interval(bound)


@dataclass(frozen=True)
class ClockInterval(Predicate):
    """An interval that depends on the present time.

    Attributes:
        now: returns the present interval.
    """

    now: Callable[[], Interval]
    fits: Fits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        now = self.now
        _set_fits(self, lambda value: now().fits(value))


@dataclass(frozen=True)
class AnyWord(Predicate):
    """Matches texts that contain one of these words."""

    words: frozenset[str]
    fits: Fits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        words = self.words
        _set_fits(self, lambda value: not words.isdisjoint(value))


@dataclass(frozen=True)
class Phrase(Predicate):
    """Matches texts that contain these words in a row.

    Attributes:
        text: the words, surrounded by spaces. Words contain no spaces, so a phrase is a substring
            of a text written in the same way, and is found in linear time.
    """

    text: str
    fits: Fits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text = self.text
        _set_fits(self, lambda value: text in f" {' '.join(value)} ")


@dataclass(frozen=True)
class WordInterval(Predicate):
    """Matches texts with a word in an interval."""

    of_word: Interval
    fits: Fits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        of_word = self.of_word.fits
        _set_fits(self, lambda value: any(map(of_word, value)))


@dataclass(frozen=True)
class Other(Predicate):
    """Any other test.

    Attributes:
        fits: the test.
        cost: nanoseconds for each value.
        cost_of_character: additional nanoseconds for each character of a value.
    """

    fits: Fits = field(repr=False)
    cost: float = 300
    cost_of_character: float = 0
