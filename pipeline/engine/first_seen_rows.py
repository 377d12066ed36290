"""The rows of the first-seen table: msgpack, versioned, fields by position."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from pipeline.engine.tables import of_newer_version, unreadable
from pipeline.types import Term

ROW_FORMAT = 1
TERM_CHARACTERS = 8192
"""How many characters of a text term a row keeps. They are for people to read: the key is a hash of
the whole term."""

Stamps: TypeAlias = tuple[tuple[int, int | None], ...]
"""For each of several sightings its offset, and when the tuple was last seen before, if ever."""


class Row(msgspec.Struct, array_like=True, frozen=True):
    """The state of one tuple in one history. Times are epoch milliseconds.

    New fields are appended, with a default. Any other change increments `ROW_FORMAT`.

    Attributes:
        format: the `ROW_FORMAT` of the writer.
        rule_id: the rule that the history belongs to.
        terms: the tuple; long texts are truncated.
        first_ms: the earliest effective time since the tuple was last judged new.
        last_ms: the latest effective time ever.
        count: the number of sightings since the tuple was last judged new; 0 for a forgotten tuple.
        offset: the offset of the last record applied.
        stamps: those of sightings that were judged new and are not known to be committed, by
            offset.
        window_ms: the length of the history, so that the row can expire without its rule at hand.
        behind_ms: how far `last_ms` was behind the event clock at the last sighting. It affects no
            verdict, only how long the row is kept: see `pipeline.engine.sweep`.
    """

    format: int
    rule_id: str
    terms: tuple[Term, ...]
    first_ms: int
    last_ms: int
    count: int
    offset: int
    stamps: Stamps = ()
    window_ms: int = 0
    behind_ms: int = 0

    @property
    def kept_from_ms(self) -> int:
        """The event clock when the tuple was last seen, or `last_ms` if that is later."""
        return self.last_ms + self.behind_ms


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Row)


def encode_row(row: Row) -> bytes:
    """Return the bytes of a row, as stored in the table and its changelog."""
    return _encoder.encode(row)


def decode_row(value: bytes) -> Row:
    """Read a row.

    Raises:
        StateError: the bytes are not a row, or were written by a newer version of firstseen.
    """
    try:
        row = _decoder.decode(value)
    except ValueError as error:
        raise unreadable("a first seen row", error) from error
    if row.format != ROW_FORMAT:
        raise of_newer_version("a first seen row", row.format, ROW_FORMAT)
    return row


def shortened(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """Return a tuple as a row keeps it: long texts are truncated."""
    return tuple(term[:TERM_CHARACTERS] if isinstance(term, str) else term for term in terms)
