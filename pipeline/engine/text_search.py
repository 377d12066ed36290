"""Searches for a few texts in many raw bytes, of which nearly all hold none.

A text whose case counts is searched by StringZilla, with AVX-512 three times as fast as Hyperscan
searches a single one; texts without regard to case, or many, by Hyperscan in one pass
(docs/adr/0006-filter-below-faust.md has the figures).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol, TypeAlias

import hyperscan
import stringzilla

from pipeline.kql.literal_search import literal_database

Data: TypeAlias = bytes | bytearray | memoryview

FEW: Final = 16 if "skylake" in stringzilla.__capabilities__ else 4
"""So many texts are searched one after the other, each in the fastest way. With AVX-512, which
StringZilla calls by Intel's first processor that had it, that is faster for more of them."""


class TextSearch(Protocol):
    """A search for certain texts. Not for two threads at once."""

    def finds(self, data: Data) -> bool:
        """Whether one of the texts stands in `data`."""

    def positions(self, data: Data) -> list[int]:
        """Return positions of last bytes, in any order.

        Each lies where one of the texts ends. Of places that overlap one may stand for all: its
        position lies in each of them.
        """


def text_searches(texts: Iterable[tuple[bytes, bool]], *, few: int = FEW) -> tuple[TextSearch, ...]:
    """Return searches that together find these texts.

    Args:
        texts: texts without NUL, none of them empty, each with whether its case does not count.
        few: so many of them are searched one after the other, more of them together.
    """
    texts = tuple(texts)
    if len(texts) > few:
        return (_Together(texts),)
    return tuple(
        _Together([(text, caseless)]) if caseless else _Alone(text) for text, caseless in texts
    )


class _Alone:
    def __init__(self, text: bytes) -> None:
        self._text = text

    def finds(self, data: Data) -> bool:
        return bool(stringzilla.find(data, self._text) >= 0)

    def positions(self, data: Data) -> list[int]:
        text, find = self._text, stringzilla.find
        found = []
        start = find(data, text)
        while start >= 0:
            end = start + len(text)
            found.append(end - 1)
            start = find(data, text, end)
        return found


class _Together:
    def __init__(self, texts: Sequence[tuple[bytes, bool]]) -> None:
        self._database = literal_database(texts)

    def finds(self, data: Data) -> bool:
        try:
            self._database.scan(data, match_event_handler=_stop)
        except hyperscan.ScanTerminated:
            return True
        return False

    def positions(self, data: Data) -> list[int]:
        found: list[int] = []
        self._database.scan(data, match_event_handler=_note, context=found)
        return found


def _note(_number: int, _start: int, end: int, _flags: int, found: list[int]) -> None:
    found.append(end - 1)


def _stop(*_: object) -> bool:
    return True
