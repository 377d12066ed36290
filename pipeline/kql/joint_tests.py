"""Answers all tests of one field together, for all its values.

However many values an array has, and however many alternatives a clause has, each kind of test is
one look-up or one search: equal values and words by set, intervals by the order of the values,
patterns and phrases by one pass over the texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from pipeline.kql.indexed import Indexed
from pipeline.kql.memo import Budget
from pipeline.kql.patterns import StarPattern, WordPattern
from pipeline.kql.predicates import (
    Anything,
    AnyWord,
    AsciiEqual,
    ClockInterval,
    Equal,
    Interval,
    Other,
    Phrase,
    Predicate,
    WordInterval,
)
from pipeline.kql.shared_patterns import FieldPatterns

P = TypeVar("P", bound=Predicate)


class JointTest:
    """Whether any of several tests holds for any of the values of a field."""

    def __init__(self, predicates: Iterable[Predicate], patterns: FieldPatterns) -> None:
        predicates = tuple(predicates)
        self._patterns = patterns
        self._anything = bool(_only(Anything, predicates))
        self._equal = frozenset(p.value for p in _only(Equal, predicates))
        self._ascii = frozenset(p.text for p in _only(AsciiEqual, predicates))
        self._words = frozenset(w for p in _only(AnyWord, predicates) for w in p.words)
        self._intervals = _only(Interval, predicates)
        self._clock_intervals = _only(ClockInterval, predicates)
        self._word_intervals = _only(WordInterval, predicates)
        self._texts = patterns.texts.add(_only(StarPattern, predicates))
        of_words = [p.of_word for p in _only(WordPattern, predicates)]
        self._of_words = patterns.words.add(of_words)
        phrases = [StarPattern(("", p.text, "")) for p in _only(Phrase, predicates)]
        self._phrases = patterns.phrases.add(phrases)
        self._others = _only(Other, predicates)
        # Most leaves have one kind of test, so only the kinds that occur are run.
        by_kind = (
            (self._anything, self._any_value),
            (self._equal, self._any_equal),
            (self._ascii, self._any_ascii),
            (self._words, self._any_word),
            (self._intervals or self._clock_intervals, self._any_between),
            (self._word_intervals, self._any_word_between),
            (self._texts, self._any_text),
            (self._of_words, self._any_of_words),
            (self._phrases, self._any_phrase),
            (self._others, self._any_other),
        )
        self._checks = tuple(check for tests, check in by_kind if tests)

    def __call__(self, found: Indexed, budget: Budget) -> bool:
        """Whether a test holds for a value.

        Raises:
            TooCostlyError: the budget does not suffice.
        """
        if not found.values:
            return False
        return any(check(found, budget) for check in self._checks)

    def _any_value(self, _found: Indexed, _budget: Budget) -> bool:
        return True

    def _any_equal(self, found: Indexed, _budget: Budget) -> bool:
        return not found.values.isdisjoint(self._equal)

    def _any_ascii(self, found: Indexed, _budget: Budget) -> bool:
        return not found.ascii_lowered.isdisjoint(self._ascii)

    def _any_word(self, found: Indexed, _budget: Budget) -> bool:
        return not found.distinct_words.isdisjoint(self._words)

    def _any_between(self, found: Indexed, _budget: Budget) -> bool:
        order = found.ordered
        return any(interval.meets(order) for interval in self._intervals) or any(
            each.now().meets(order) for each in self._clock_intervals
        )

    def _any_word_between(self, found: Indexed, _budget: Budget) -> bool:
        return bool(found.distinct_words) and any(
            interval.of_word.meets(found.ordered_words) for interval in self._word_intervals
        )

    def _any_text(self, found: Indexed, budget: Budget) -> bool:
        return self._patterns.texts.fits_any(found.texts, self._texts, budget)

    def _any_of_words(self, found: Indexed, budget: Budget) -> bool:
        return self._patterns.words.fits_any(found.words, self._of_words, budget)

    def _any_phrase(self, found: Indexed, budget: Budget) -> bool:
        return self._patterns.phrases.fits_any(found.phrases, self._phrases, budget)

    def _any_other(self, found: Indexed, budget: Budget) -> bool:
        for other in self._others:
            cost = other.cost * len(found.values)
            if other.cost_of_character:
                cost += other.cost_of_character * found.size
            budget.spend(cost)
            if any(map(other.fits, found.values)):
                return True
        return False


def _only(kind: type[P], predicates: Sequence[Any]) -> tuple[P, ...]:
    return tuple(p for p in predicates if isinstance(p, kind))
