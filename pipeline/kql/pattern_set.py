"""Tests many star patterns on many texts, in one pass over the texts.

A pattern can fit only if all its parts (the texts between its stars) occur somewhere. That is
tested first, for all patterns of all queries at once. For a pattern with one part, anchored or not,
this is already the answer. For others, the pattern is tested on the texts around each occurrence of
its rarest part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any, Final

from pipeline.kql.indexed import SEPARATOR, STAND_IN, Texts
from pipeline.kql.literal_search import literal_database
from pipeline.kql.memo import Budget
from pipeline.kql.patterns import StarPattern

_PARTS_ASKED: Final = 4
"""The maximum number of parts of a pattern that are searched for; the longest are the most
selective."""

_DEAR: Final = 3
"""Testing a text around an occurrence costs as much as testing this many texts in turn."""

_RARE: Final = 8
"""A part with no more occurrences than this is rare enough: no rarer one is looked for."""

_SHORTEST_PART: Final = 2
_LONGEST_PART: Final = 1000
"""The minimum (in bytes) and maximum (in characters) length of a part that is searched for. A
single character occurs everywhere, so testing for it ends at the first occurrence anyway."""

# Nanoseconds, as measured. For each byte, at worst: a search for hundreds of texts, and one for a
# single text. Testing a pattern on a text: for each part of the pattern, and for each character
# passed over.
_SEARCH = 2.0
_FIND = 0.3
_FITS = 80
_PASS = 0.1


class PatternSet:
    """A test of whether any of several patterns fits any of several texts. Thread-safe."""

    def __init__(self, patterns: Iterable[StarPattern] = ()) -> None:
        self._number: dict[StarPattern, int] = {}
        self._patterns: list[_Framed] = []
        self._search: _Search | None = None
        self._lock = Lock()
        self.add(patterns)

    def add(self, patterns: Iterable[StarPattern]) -> frozenset[int]:
        """Add patterns and return their numbers, for `fits_any`."""
        with self._lock:
            return frozenset(map(self._added, patterns))

    def _added(self, pattern: StarPattern) -> int:
        number = self._number.setdefault(pattern, len(self._patterns))
        if number == len(self._patterns):
            self._patterns.append(_Framed(pattern))
            self._search = None
        return number

    def prepare(self) -> None:
        """Build the search now, which the first test would have to do otherwise."""
        with self._lock:
            self._ready()

    def fits_any(
        self,
        texts: Texts,
        numbers: frozenset[int] | None = None,
        budget: Budget | None = None,
    ) -> bool:
        """Whether one of the patterns fits one of the texts.

        Args:
            texts: the texts.
            numbers: the numbers of the patterns to test; None for all.
            budget: what may be spent.

        Raises:
            TooCostlyError: the budget does not suffice.
        """
        if not texts.texts:
            return False
        budget = budget or Budget()
        candidates = texts.candidates.get(self)
        if candidates is None:
            candidates = texts.candidates[self] = self._candidates(texts, budget)
        chosen = candidates if numbers is None else candidates & numbers
        return any(self._patterns[number].fits(texts, budget) for number in sorted(chosen))

    def _candidates(self, texts: Texts, budget: Budget) -> frozenset[int]:
        """Return the patterns whose parts (those that are searched for) all occur somewhere."""
        with self._lock:  # the search has a single scratch space
            search = self._ready()
            budget.spend(_SEARCH * len(texts.encoded))
            return search.candidates(texts.encoded)

    def _ready(self) -> _Search:
        if self._search is None:
            self._search = _Search([framed.parts for framed in self._patterns])
        return self._search


class _Framed:
    """A pattern, and its parts as they occur among separators."""

    def __init__(self, pattern: StarPattern) -> None:
        self._pattern = pattern
        # Separators in values are replaced, so a pattern that contains one cannot be searched for.
        self._has_separator = any(SEPARATOR in part or STAND_IN in part for part in pattern.parts)
        first, *middle, last = pattern.parts
        framed = [SEPARATOR + first] if first else []
        framed += [part for part in middle if part]
        framed += [last + SEPARATOR] if last else []
        self.parts: tuple[str, ...] = ()
        if not self._has_separator:
            self.parts = tuple(sorted(dict.fromkeys(framed), key=len, reverse=True))
        self._pieces = len(framed)

    def fits(self, texts: Texts, budget: Budget) -> bool:
        """Whether the pattern, whose longest parts occur somewhere, fits one of the texts."""
        if not self._has_separator:
            if not all(self._occurs(part, texts, budget) for part in self.parts):
                return False
            if self._pieces < 2:
                return True
            part = self._rarest(texts, budget)
            if texts.count(part) * _DEAR <= len(texts.texts):
                return self._fits_around(part, texts, budget)
        budget.spend(_FITS * self._pieces * len(texts.texts) + _PASS * len(texts.joined))
        return any(map(self._pattern.fits, texts.texts))

    def _occurs(self, part: str, texts: Texts, budget: Budget) -> bool:
        counted = texts.counted(part)
        if counted is not None:
            return counted > 0
        if part in texts.joined:
            return True
        budget.spend(_FIND * len(texts.joined))
        return False

    def _rarest(self, texts: Texts, budget: Budget) -> str:
        rarest, fewest = "", 0
        for part in self.parts:
            if texts.counted(part) is None:
                budget.spend(_FIND * len(texts.joined))
            count = texts.count(part)
            if not rarest or count < fewest:
                rarest, fewest = part, count
            if fewest <= _RARE:
                break
        return rarest

    def _fits_around(self, part: str, texts: Texts, budget: Budget) -> bool:
        """Whether the pattern fits a text around an occurrence of this part, frame included."""
        joined = texts.joined
        place = joined.find(part)
        while place >= 0:
            # A part framed in front begins with the separator, so its text begins after that.
            start = joined.rfind(SEPARATOR, 0, place + 1) + 1
            end = joined.find(SEPARATOR, start)
            budget.spend(_DEAR * _FITS * self._pieces + _PASS * (end - start))
            if self._pattern.fits(joined[start:end]):
                return True
            place = joined.find(part, end)
        return False


class _Search:
    """A single search for the parts of all patterns."""

    def __init__(self, patterns: Sequence[tuple[str, ...]]) -> None:
        bits: dict[bytes, int] = {}
        self._needs: list[frozenset[int]] = []
        self._by_bit: dict[int, list[int]] = {}
        always = []
        for number, parts in enumerate(patterns):
            need = [bits.setdefault(text, len(bits)) for text in _searched(parts)]
            self._needs.append(frozenset(need))
            if need:
                self._by_bit.setdefault(need[0], []).append(number)
            else:
                always.append(number)
        self._always = frozenset(always)
        self._found: set[int] = set()
        self._database: Any = None
        if bits:
            self._database = literal_database(((text, False) for text in bits), once=True)

    def candidates(self, data: bytes) -> frozenset[int]:
        """Return the numbers of the patterns whose parts occur in `data`."""
        found: set[int] = set()
        self._found = found
        if self._database is not None:
            self._database.scan(data, match_event_handler=self._note)
        return self._always.union(
            number
            for bit in found
            for number in self._by_bit.get(bit, ())
            if self._needs[number] <= found
        )

    def _note(self, number: int, *_: object) -> None:
        self._found.add(number)


def _searched(parts: Sequence[str]) -> list[bytes]:
    """Return the parts of a pattern that are searched for, longest first."""
    # Hyperscan's binding takes NUL for the end of a text to be searched for.
    plain = [max(p.split("\0"), key=len) if "\0" in p else p for p in parts]
    encoded = [part[:_LONGEST_PART].encode("utf-8", "surrogatepass") for part in plain]
    long = [text for text in encoded if len(text) >= _SHORTEST_PART]
    return sorted(long, key=len, reverse=True)[:_PARTS_ASKED]
