r"""Scans characters to literals: escapes, quotes, stars, and where an unquoted literal ends.

The rules and their order are those of Kibana's grammar (kbn-es-query, grammar.peggy). In unquoted
text, escapes of control characters are tried before escaped keywords, so ``\not`` is a newline
followed by ``ot``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import QuerySyntaxError, Span

WS = " \t\r\n\u00a0"
"""What separates the words of a query."""

TRIMMED = WS + "\v\f\ufeff\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
TRIMMED += "\u2028\u2029\u202f\u205f\u3000"
"""What is trimmed from both ends of an unquoted literal (JavaScript's `trim`)."""

SPECIAL = frozenset('\\():<>"*{}')
"""What has to be escaped in an unquoted literal."""

_WHITESPACE = re.compile(f"[{WS}]*")
_STOP_WORD = re.compile(f"[{WS}](?:or|and)[{WS}]|not[{WS}]", re.IGNORECASE | re.ASCII)
# Runs without special characters or starts of stop words: the fast path.
_PLAIN = re.compile(rf'[^\\():<>"*{{}}nN{WS}]+')
_QUOTED_PLAIN = re.compile(r'[^"\\]+')
_HEX = re.compile(r"\\u([0-9a-fA-F]{4})")
_ESCAPED_KEYWORD = re.compile(r"\\(or|and|not)", re.IGNORECASE | re.ASCII)
_CONTROL = {"t": "\t", "r": "\r", "n": "\n"}
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Scan:
    """A literal: its texts between unescaped stars, its position, and the position after it."""

    parts: tuple[str, ...]
    quoted: bool
    start: int
    end: int

    @property
    def span(self) -> Span:
        return Span(self.start, self.end)


def skip_whitespace(text: str, position: int) -> int:
    found = _WHITESPACE.match(text, position)
    return found.end() if found else position


def scan_literal(text: str, position: int) -> Scan | None:
    """Read the literal that starts here; None if none does.

    Raises:
        QuerySyntaxError: an unknown escape in unquoted text, or a quote that never closes.
    """
    if text.startswith('"', position):
        return _scan_quoted(text, position)
    return _scan_unquoted(text, position)


def _scan_quoted(text: str, start: int) -> Scan:
    pieces: list[str] = []
    position = start + 1
    while position < len(text):
        if run := _QUOTED_PLAIN.match(text, position):
            pieces.append(run.group())
            position = run.end()
        elif text[position] == '"':
            value = _joined(pieces)
            return Scan((value,), quoted=True, start=start, end=position + 1)
        else:
            piece, position = _quoted_escape(text, position)
            pieces.append(piece)
    hint = None
    if '\\"' in text[start:]:
        hint = r'a backslash before a quote escapes it: end a path with \\" or leave the quotes out'
    raise QuerySyntaxError(
        "this quote never closes", text=text, span=Span(start, len(text)), hint=hint
    )


def _quoted_escape(text: str, position: int) -> tuple[str, int]:
    after = text[position + 1 : position + 2]
    if after in _CONTROL:
        return _CONTROL[after], position + 2
    if code := _HEX.match(text, position):
        return chr(int(code.group(1), 16)), code.end()
    if after and after in '\\"':
        return after, position + 2
    return "\\", position + 1  # an unknown escape keeps its backslash


def _scan_unquoted(text: str, start: int) -> Scan | None:
    parts: list[str] = []
    pieces: list[str] = []
    position = start
    while position < len(text):
        character = text[position]
        if run := _PLAIN.match(text, position):
            pieces.append(run.group())
            position = run.end()
        elif character == "\\":
            piece, position = _unquoted_escape(text, position)
            pieces.append(piece)
        elif character == "*":
            parts.append(_joined(pieces))
            pieces.clear()
            position += 1
        elif character in SPECIAL or _STOP_WORD.match(text, position):
            break
        else:
            pieces.append(character)
            position += 1
    if position == start:
        return None
    parts.append(_joined(pieces))
    return Scan(_trimmed(parts), quoted=False, start=start, end=position)


def _unquoted_escape(text: str, position: int) -> tuple[str, int]:
    after = text[position + 1 : position + 2]
    if after in _CONTROL:
        return _CONTROL[after], position + 2
    if after and after in SPECIAL:
        return after, position + 2
    if code := _HEX.match(text, position):
        return chr(int(code.group(1), 16)), code.end()
    if keyword := _ESCAPED_KEYWORD.match(text, position):
        return keyword.group(1), keyword.end()
    raise QuerySyntaxError(
        f"`\\{after}` is not an escape in unquoted text",
        text=text,
        span=Span(position, min(position + 2, len(text))),
        hint=r"write \\ for a backslash, or quote the value",
    )


def _trimmed(parts: list[str]) -> tuple[str, ...]:
    parts[0] = parts[0].lstrip(TRIMMED)
    parts[-1] = parts[-1].rstrip(TRIMMED)
    return tuple(parts)


def _joined(pieces: list[str]) -> str:
    """Join the pieces; a pair of escaped UTF-16 surrogates becomes the character it encodes."""
    text = "".join(pieces)
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text
