r"""How the needles of queries are spelled in raw JSON, whoever wrote it.

A JSON writer may spell any character as an escape, ``\u0061``. Apart from that, printable ASCII
without a slash has only one spelling. `plain` decodes these escapes, so that a search for a needle
in `plain(data)` misses nothing. Hardly any record has such escapes. So a search of raw bytes looks
for the needles and for the marks of other spellings (`ESCAPE_MARK`, `FOLDED_MARKS`) in one pass,
and only what contains a mark is searched again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pipeline.kql import Needle

ESCAPE_MARK: Final = rb"\u00"
"""The beginning of each escape of a printable ASCII character."""

FOLDED_MARKS: Final = (b"\xe2\x84\xaa", b"\xc4\xb0", rb"\u212a", rb"\u212A", rb"\u0130")
"""The Kelvin sign and the dotted capital I, raw and as escapes: the only characters outside of
ASCII whose lower case, k and i, is within ASCII."""

AFTER_STRING: Final = b",]} \t\r\n"
"""What may follow the string of a value. A key is followed by a colon or one of the four spaces."""

# Left to right, so that a backslash that is itself escaped begins no escape.
_ESCAPE = re.compile(rb"\\(?:u00([2-7][0-9A-Fa-f])|u(0130|212[aA])|.)", re.DOTALL)
_FOLDED: Final = {b"0130": b"i", b"212a": b"k", b"212A": b"k"}


def spelling(needle: Needle) -> bytes:
    """Return how a needle is spelled in plain JSON, including its quotes."""
    text = needle.text.replace("\\", "\\\\").replace('"', '\\"')
    return b'"' * needle.starts + text.encode() + b'"' * needle.ends


def is_value(data: bytes | bytearray | memoryview, end: int) -> bool:
    """Whether a string that ends here (the position after its quote) may be a value, not a key."""
    return end < len(data) and data[end] in AFTER_STRING


def closed_spellings(needle: Needle) -> Iterator[bytes]:
    """Yield the spelling of a needle that `ends`, followed by each character that may come next."""
    text = spelling(needle)
    for after in AFTER_STRING:
        yield text + bytes([after])


def is_folded(needle: Needle) -> bool:
    """Whether a character of `FOLDED_MARKS` may stand for a character of the needle."""
    return needle.caseless and not {"i", "k"}.isdisjoint(needle.text)


def plain(data: bytes | bytearray | memoryview) -> bytes:
    """Return the JSON without escapes of printable ASCII, and with k and i for `FOLDED_MARKS`."""
    text = _ESCAPE.sub(_unescaped, data)
    return text.replace(b"\xe2\x84\xaa", b"k").replace(b"\xc4\xb0", b"i")


def _unescaped(found: re.Match[bytes]) -> bytes:
    digits, folded = found.groups()
    if folded is not None:
        return _FOLDED[folded]
    if digits is None:
        return found.group()
    character = bytes([int(digits, 16)])
    return b"\\" + character if character in b'\\"' else character
