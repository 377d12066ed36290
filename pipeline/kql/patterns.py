"""Star patterns in linear time: anchored ends, then a greedy left-to-right search of the middle.

In patterns whose only special character is ``*``, the leftmost place for each middle part is always
right. So nothing backtracks, and no regular expression is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.kql.predicates import Fits, Predicate


@dataclass(frozen=True)
class StarPattern(Predicate):
    """A pattern that can be tested on one text, or on many (`pipeline.kql.pattern_set`).

    Attributes:
        parts: the texts between its stars, at least two; ``("a", "")`` is ``a*``.
        fits: whether it fits a whole text.
    """

    parts: tuple[str, ...]
    fits: Fits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fits", compile_pattern(self.parts))


@dataclass(frozen=True)
class WordPattern(Predicate):
    """A pattern that is tested on each word of an analysed text."""

    of_word: StarPattern
    fits: Fits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        of_word = self.of_word.fits
        object.__setattr__(self, "fits", lambda value: any(map(of_word, value)))


def compile_pattern(parts: tuple[str, ...]) -> Callable[[str], bool]:
    """Return a test of whole strings against a pattern, given as the texts between its stars.

    Args:
        parts: at least two texts; ``("a", "")`` is ``a*``.
    """
    prefix, suffix = parts[0], parts[-1]
    middle = tuple(part for part in parts[1:-1] if part)
    if middle:
        return _with_middle(prefix, middle, suffix)
    if prefix and suffix:
        shortest = len(prefix) + len(suffix)
        return lambda text: (
            len(text) >= shortest and text.startswith(prefix) and text.endswith(suffix)
        )
    if prefix:
        return lambda text: text.startswith(prefix)
    if suffix:
        return lambda text: text.endswith(suffix)
    return lambda _: True


def _with_middle(prefix: str, middle: tuple[str, ...], suffix: str) -> Callable[[str], bool]:
    before, after = len(prefix), len(suffix)

    def matches(text: str) -> bool:
        if not (text.startswith(prefix) and text.endswith(suffix)):
            return False
        position, end = before, len(text) - after
        for part in middle:
            position = text.find(part, position, end)
            if position < 0:
                return False
            position += len(part)
        return position <= end

    return matches
