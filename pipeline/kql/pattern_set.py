"""Many star patterns on many texts, in one pass over the texts.

A pattern can fit only if all its parts, the texts between its stars, stand somewhere. That is asked
first, for all patterns at once. Where a pattern has one part, anchored or not, it is the answer;
the texts around the places of the longest part are looked at for the others, each of them once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from threading import Lock
from typing import Any, Final

from pipeline.kql.indexed import SEPARATOR, STAND_IN, Texts
from pipeline.kql.literal_search import literal_database
from pipeline.kql.patterns import StarPattern

_PARTS_ASKED: Final = 4
"""Parts of a pattern that are searched for; the longest ones tell most."""

_DEAR: Final = 3
"""A text that is looked for costs as much as so many that are asked in turn."""

_SHORTEST_PART: Final = 3
_LONGEST_PART: Final = 1000
"""Characters of a part that is searched for. A short one stands everywhere: each place would be
told, where asking whether it stands at all ends with the first."""


class PatternSet:
    """A test whether any of several patterns fits any of several texts. Safe in any thread."""

    def __init__(self, patterns: Iterable[StarPattern]) -> None:
        self._patterns: list[tuple[StarPattern, tuple[str, ...]]] = []
        self._odd: list[StarPattern] = []
        for pattern in patterns:
            if any(SEPARATOR in part or STAND_IN in part for part in pattern.parts):
                self._odd.append(pattern)
            else:
                self._patterns.append((pattern, _framed(pattern)))
        self._search: _Search | None = None
        self._lock = Lock()

    def fits_any(self, texts: Texts) -> bool:
        """Whether one of the patterns fits one of the texts."""
        if not texts.texts:
            return False
        if any(any(map(pattern.fits, texts.texts)) for pattern in self._odd):
            return True
        return any(
            all(part in texts.joined for part in parts)
            and (len(parts) < 2 or _fits_around(pattern, max(parts, key=len), texts))
            for pattern, parts in self._standing(texts)
        )

    def _standing(self, texts: Texts) -> Iterator[tuple[StarPattern, tuple[str, ...]]]:
        """Return the patterns whose longer parts all stand somewhere."""
        with self._lock:  # of the search: it has one scratch space
            if self._search is None:
                self._search = _Search([parts for _, parts in self._patterns])
            numbers = self._search.standing(texts.encoded)
        return map(self._patterns.__getitem__, numbers)


class _Search:
    """One search for the parts of all patterns."""

    def __init__(self, patterns: Sequence[tuple[str, ...]]) -> None:
        self._bit: dict[bytes, int] = {}
        self._needs = [self._need(parts) for parts in patterns]
        self._found = 0
        self._database: Any = None
        if self._bit:
            self._database = literal_database(((text, False) for text in self._bit), once=True)

    def _need(self, parts: tuple[str, ...]) -> int:
        need = 0
        # Hyperscan's binding takes a NUL for the end of a text that is to be searched for.
        plain = [max(p.split("\0"), key=len) if "\0" in p else p for p in parts]
        long = [text for text in plain if len(text) >= _SHORTEST_PART]
        for long_text in sorted(long, key=len)[-_PARTS_ASKED:]:
            text = long_text[:_LONGEST_PART].encode("utf-8", "surrogatepass")
            need |= 1 << self._bit.setdefault(text, len(self._bit))
        return need

    def standing(self, data: bytes) -> list[int]:
        """Return the numbers of the patterns whose parts stand in `data`."""
        self._found = 0
        if self._database is not None:
            self._database.scan(data, match_event_handler=self._note)
        found = self._found
        return [number for number, need in enumerate(self._needs) if need & found == need]

    def _note(self, number: int, *_: object) -> None:
        self._found |= 1 << number


def _framed(pattern: StarPattern) -> tuple[str, ...]:
    """Return the parts of a pattern as they stand among separators."""
    first, *middle, last = pattern.parts
    framed = [SEPARATOR + first] if first else []
    framed += [part for part in middle if part]
    framed += [last + SEPARATOR] if last else []
    return tuple(framed)


def _fits_around(pattern: StarPattern, part: str, texts: Texts) -> bool:
    """Whether a pattern fits a text in which this part stands, its frame included."""
    joined = texts.joined
    if joined.count(part) * _DEAR > len(texts.texts):
        return any(map(pattern.fits, texts.texts))
    place = joined.find(part)
    while place >= 0:
        # A part with a frame in front begins with the separator: the text begins behind it.
        start = joined.rfind(SEPARATOR, 0, place + 1) + 1
        end = joined.find(SEPARATOR, start)
        if pattern.fits(joined[start:end]):
            return True
        place = joined.find(part, end)
    return False
