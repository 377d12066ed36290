"""The values of one field of one event, indexed once for all tests of that field.

A single value is tested directly. Only what is long is indexed: arrays, and long texts, which each
clause of each rule would otherwise fold and walk again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, KeysView
from functools import cached_property
from itertools import chain
from typing import Any, Final

from pipeline.kql.fields import as_list
from pipeline.kql.predicates import ascii_lower
from pipeline.kql.values import ValueType

SEPARATOR: Final = "\1"
"""What separates texts. It is not NUL, which Hyperscan's binding takes for the end of the data."""
STAND_IN: Final = "\2"
"""What replaces the separator inside of values."""


class Texts:
    """Many texts joined into one, so that a search is one pass, however many there are.

    Attributes:
        texts: the texts.
        candidates: for each search, which of its patterns may fit; stored here by the search.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(texts)
        self.candidates: dict[object, frozenset[int]] = {}
        self._counts: dict[str, int] = {}

    @cached_property
    def joined(self) -> str:
        """The texts, with a separator before, between and after them."""
        framed = ["", *self.texts, ""]
        joined = SEPARATOR.join(framed)
        if joined.count(SEPARATOR) >= len(framed):
            joined = SEPARATOR.join(text.replace(SEPARATOR, STAND_IN) for text in framed)
        return joined

    @cached_property
    def encoded(self) -> bytes:
        """The joined texts as UTF-8, for a search of bytes."""
        return self.joined.encode("utf-8", "surrogatepass")

    def counted(self, part: str) -> int | None:
        """Return how often a part occurs in the texts, if it has been counted before."""
        return self._counts.get(part)

    def count(self, part: str) -> int:
        """Return how often a part occurs in the texts."""
        found = self._counts.get(part)
        if found is None:
            found = self._counts[part] = self.joined.count(part)
        return found


class Ordered:
    """Ordered values. They are sorted only if their least and greatest do not suffice."""

    def __init__(self, values: Collection[Any]) -> None:
        self.values = values

    @cached_property
    def least(self) -> Any:
        return min(self.values)

    @cached_property
    def greatest(self) -> Any:
        return max(self.values)

    @cached_property
    def sorted(self) -> list[Any]:
        return sorted(self.values)


class Indexed:
    """The indexed values of a field.

    Attributes:
        values: the distinct indexed values, in order of occurrence.
    """

    def __init__(self, raw: Any, value_type: ValueType) -> None:
        """Index a field.

        Args:
            raw: what the field's reader returned.
            value_type: how the field is indexed.
        """
        found: dict[Any, None] = dict.fromkeys(map(value_type.index, as_list(raw)))
        found.pop(None, None)
        self.values: KeysView[Any] = found.keys()

    @classmethod
    def of(cls, values: KeysView[Any]) -> Indexed:
        """Wrap values that are already indexed."""
        made = cls.__new__(cls)
        made.values = values
        return made

    @cached_property
    def size(self) -> int:
        """The length of all values together, for a keyword."""
        return sum(map(len, self.values))

    @cached_property
    def ordered(self) -> Ordered:
        """All values, for a type that has an order."""
        return Ordered(self.values)

    @cached_property
    def texts(self) -> Texts:
        """All values, for a keyword."""
        return Texts(self.values)

    @cached_property
    def ascii_lowered(self) -> frozenset[str]:
        """All values with their ASCII letters in lower case, for a keyword."""
        return frozenset(map(ascii_lower, self.values))

    @cached_property
    def distinct_words(self) -> KeysView[str]:
        """The distinct words of all values, in order of occurrence, for a text."""
        return dict.fromkeys(chain.from_iterable(self.values)).keys()

    @cached_property
    def words(self) -> Texts:
        """The words of all values, for a text."""
        return Texts(self.distinct_words)

    @cached_property
    def ordered_words(self) -> Ordered:
        """The words of all values, for a text."""
        return Ordered(self.distinct_words)

    @cached_property
    def phrases(self) -> Texts:
        """The values of a text, each as its words surrounded by spaces."""
        return Texts(f" {' '.join(words)} " for words in self.values)
