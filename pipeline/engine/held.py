"""Histories that are held: no sighting of theirs is judged while they learn from the retained log.

A backfill (`pipeline.history.backfill`) sends `Hold` to every partition, teaches what the log
holds, and sends `Release`. A sighting between the two is neither judged nor remembered; after the
release the backfill sends it again, and it is judged by a history that knows the log.

Exactly the offsets between the two records are held. The answer for an offset never changes,
whatever a crash takes away or leaves behind: the `Hold` before an observation that is read again is
in the table, or is read again too. So a span is kept until its end is committed. The latest span of
a history is kept forever: it shows that the history has been taught.

Each history has a row of its own, since a row must fit into one record of the changelog however
many rules come and go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from pipeline.engine.identity import HISTORY_BYTES
from pipeline.engine.tables import Table, unreadable

_PREFIX: Final = b"held"
_KEY_BYTES: Final = len(_PREFIX) + HISTORY_BYTES


class Span(msgspec.Struct, array_like=True, frozen=True):
    """Offsets from `Hold` (inclusive) to `Release` (exclusive; None while there is none)."""

    begin: int
    end: int | None = None

    def holds(self, offset: int) -> bool:
        """Whether an observation at this offset is held."""
        return self.begin <= offset and (self.end is None or offset < self.end)


class HeldHistory(msgspec.Struct, array_like=True, frozen=True):
    """The spans of one history, in order."""

    rule_id: str
    spans: tuple[Span, ...]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(HeldHistory)


def held_key(history: bytes) -> bytes:
    """Return the key of a history's row. No first seen key has its length."""
    return _PREFIX + history


class Held:
    """The held histories of one table.

    Raises:
        StateError: a row of theirs cannot be read.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._histories = dict(_rows(table))
        # Those held at an offset or behind it, and perhaps more.
        self._recent = dict(self._histories)
        self._recent_from = 0

    def holds(self, key: bytes, offset: int) -> bool:
        """Whether an observation of this key, at this offset, is held."""
        if not self._histories:
            return False
        held = self._histories.get(key[:HISTORY_BYTES])
        return held is not None and any(span.holds(offset) for span in held.spans)

    def held_after(self, offset: int) -> set[bytes]:
        """Return the histories of which an observation, at this offset or behind it, is held."""
        if offset < self._recent_from:
            self._recent = dict(self._histories)
        self._recent_from = offset
        # Nearly all histories were held long ago, so they are looked at once.
        self._recent = {
            history: held
            for history, held in self._recent.items()
            if any(span.end is None or offset < span.end for span in held.spans)
        }
        return set(self._recent)

    def hold(self, rule_id: str, history: bytes, offset: int, committed: int) -> None:
        """Hold a history from an offset on; one that is held goes on being held."""
        known = self._histories.get(history)
        spans = () if known is None else known.spans
        if not any(span.holds(offset) for span in spans):
            spans = (*(_uncommitted(spans, committed) or spans[-1:]), Span(offset))
        self._set(history, HeldHistory(rule_id, spans))

    def release(self, history: bytes, offset: int) -> None:
        """End the hold of a history at an offset; one that is not held stays as it is."""
        known = self._histories.get(history)
        if known is None:
            return
        spans = tuple(
            Span(span.begin, offset) if span.end is None and span.begin < offset else span
            for span in known.spans
        )
        self._set(history, HeldHistory(known.rule_id, spans))

    def taught(self, history: bytes) -> bool:
        """Whether a history was held, and released, before."""
        known = self._histories.get(history)
        return known is not None and any(span.end is not None for span in known.spans)

    def open(self) -> frozenset[bytes]:
        """Return the histories that are held now."""
        return frozenset(
            history
            for history, held in self._histories.items()
            if any(span.end is None for span in held.spans)
        )

    def _set(self, history: bytes, held: HeldHistory) -> None:
        self._histories[history] = self._recent[history] = held
        self._table.put(held_key(history), _encoder.encode(held))


def _uncommitted(spans: tuple[Span, ...], committed: int) -> tuple[Span, ...]:
    return tuple(span for span in spans if span.end is None or span.end > committed)


def _rows(table: Table) -> Iterator[tuple[bytes, HeldHistory]]:
    """Yield the histories that a table has rows of."""
    for key, value in table.items_from(_PREFIX):
        if not key.startswith(_PREFIX):
            return
        if len(key) == _KEY_BYTES:
            try:
                yield key.removeprefix(_PREFIX), _decoder.decode(value)
            except ValueError as error:
                raise unreadable("the row of a held history", error) from error
