"""Searches for a few texts in many raw bytes, nearly all of which contain none.

A case-sensitive text is searched for with the substring search of Rust's memchr, which
ahocorasick-rs uses for a single text: it looks for the two rarest bytes of the text.
Case-insensitive texts, or many texts, are searched for by Hyperscan in one pass (the figures are in
docs/adr/0006-filter-below-faust.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeAlias

import hyperscan
from ahocorasick_rs import BytesAhoCorasick

from pipeline.kql.literal_search import literal_database

Data: TypeAlias = bytes | bytearray | memoryview

FEW: Final = 8
"""Up to this many texts are searched for one after the other, each in the fastest way. For more, a
single pass is cheaper."""


Hit: TypeAlias = tuple[int, int, int]
"""Where a text was found: a number without meaning here, the start, and the end."""


class TextSearch(Protocol):
    """A search for certain texts. Not thread-safe.

    Attributes:
        longest: the length of the longest of the texts, in bytes.
    """

    longest: int

    def finds(self, data: Data) -> bool:
        """Whether one of the texts is in `data`."""

    @property
    def hits(self) -> Callable[[Data], list[Hit]]:
        """Returns where the texts end, in any order; the starts may be wrong.

        One hit may represent several that overlap: its last byte is in each of them.
        """


def text_searches(texts: Iterable[tuple[bytes, bool]], *, few: int = FEW) -> tuple[TextSearch, ...]:
    """Return searches that together find these texts.

    Args:
        texts: texts without NUL, none of them empty, each with whether to ignore its case.
        few: up to this many texts are searched for one after the other, more of them together.
    """
    texts = tuple(texts)
    if len(texts) > few:
        return (_Together(texts),)
    return tuple(
        _Together([(text, caseless)]) if caseless else _Alone(text) for text, caseless in texts
    )


class _Alone:
    def __init__(self, text: bytes) -> None:
        self._text, self.longest = text, len(text)
        self.hits = BytesAhoCorasick([text]).find_matches_as_indexes

    def finds(self, data: Data) -> bool:
        # Finding all hits would take long in a record that consists of them.
        whole = bytes(data) if isinstance(data, memoryview) else data
        return self._text in whole


class _Together:
    def __init__(self, texts: Sequence[tuple[bytes, bool]]) -> None:
        self._database = literal_database(texts)
        self.longest = max(len(text) for text, _ in texts)

    def finds(self, data: Data) -> bool:
        try:
            self._database.scan(data, match_event_handler=_stop)
        except hyperscan.ScanTerminated:
            return True
        return False

    def hits(self, data: Data) -> list[Hit]:
        found: list[Hit] = []
        self._database.scan(data, match_event_handler=_note, context=found)
        return found


def _note(number: int, start: int, end: int, _flags: int, found: list[Hit]) -> None:
    found.append((number, start, end))


def _stop(*_: object) -> bool:
    return True
