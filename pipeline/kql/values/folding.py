"""Texts as Lucene sees them: lower case, UTF-16 length, words, and JSON scalars as text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

# Hiragana and ideographs are words on their own, as with Unicode's word boundaries (UAX 29).
_ALONE = "\u3040-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+")

# Jackson, Elasticsearch's JSON reader, accepts no number of more than 1,000 characters.
_LONGEST_NUMBER_BITS = 3_321


def lower(text: str) -> str:
    """Return a text in lower case, character by character, as Lucene's LowerCaseFilter does.

    Unlike `str.lower`, it ignores context (a final sigma) and never changes the number of
    characters (U+0130 becomes a plain i).
    """
    if text.isascii():
        return text.lower()
    # These two letters are the only ones that `str.lower` treats differently from Lucene.
    return "\u03c3".join(part.lower() for part in text.replace("\u0130", "i").split("\u03a3"))


# A rule may test the same text many times: `not message:a and not message:b`. Only a few are kept,
# because a text may be as long as a record.
@lru_cache(maxsize=4)
def words(text: str) -> tuple[str, ...]:
    """Return the tokens of an analysed text: lower-case runs of letters, digits and underscores.

    Elasticsearch's standard analyser keeps some texts together that are split here: `cmd.exe` and
    `don't` are one token there, and two here.
    """
    return tuple(_WORD.findall(lower(text)))


def is_longer(text: str, limit: int) -> bool:
    """Whether a text has more than ``limit`` UTF-16 units, which is how Java counts."""
    length = len(text)
    if length > limit or 2 * length <= limit or text.isascii():
        return length > limit
    return length + sum(c > "\uffff" for c in text) > limit


def scalar_text(raw: Any) -> str | None:
    """Return a JSON scalar as the text that a keyword field indexes, or None.

    Numbers are written as Python writes them: their spelling in the JSON text (``1e2``) is lost
    when it is decoded.
    """
    if isinstance(raw, str):
        return raw
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, int):
        return str(raw) if raw.bit_length() <= _LONGEST_NUMBER_BITS else None
    if isinstance(raw, float):
        return repr(raw)
    return None
