"""Finds the line of a key in a TOML text, because ``tomllib`` returns values without positions.

The scan is lazy: a rule file without an issue is never scanned.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

Place: TypeAlias = tuple[str | int, ...]
"""A path into a document: keys, and indexes into arrays, as in ``("rule", "threat", 0)``."""

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r"'''.*?'{3,5}"
    r'|"""(?:[^\\"]|\\.|"(?!""))*"{3,5}'
    r"|'[^'\n]*'"
    r'|"(?:[^"\\\n]|\\.)*"',
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")
_MAX_DEPTH = 100
MAX_KEY_PARTS = 32
"""The maximum number of parts of a dotted key; those of rules have four at most."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A key or table that is defined twice: its name, and both lines."""

    name: str
    first_line: int
    line: int


class TomlSource:
    """A TOML text that can tell the line of a key.

    It never raises. Where the text stops being valid TOML, the scan ends, and the places found so
    far are used.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def line(self, place: Place) -> int:
        """Return the 1-based line of a key or table header, or else of its nearest known parent."""
        return self._find(place)[0]

    def header_line(self, table: str) -> int:
        """Return the 1-based line of ``[table]``; without a scan if it is unambiguous."""
        header = f"\n[{table}]\n"
        padded = f"\n{self.text}\n"
        if padded.count(header) == 1:
            return padded.count("\n", 0, padded.index(header)) + 1
        return self.line((table,))

    def block_lines(self, table: str, blocks: int) -> tuple[int, ...]:
        """Return the 1-based line of each ``[[table]]``; without a scan if it is unambiguous."""
        padded = f"\n{self.text}\n"
        header = f"\n[[{table}]]\n"
        if padded.count(header) == blocks == len(re.findall(rf"\[\s*\[\W*{table}\b", padded)):
            starts = (found.start() for found in re.finditer(re.escape(header), padded))
            return tuple(padded.count("\n", 0, start) + 1 for start in starts)
        return tuple(self.line((table, index)) for index in range(blocks))

    def value_line(self, place: Place) -> int:
        """Return the 1-based line on which the text of a key's string value begins."""
        return self._find(place)[1]

    def knows(self, place: Place) -> bool:
        """Whether this very key is in the text."""
        return place in self._scan.lines

    def duplicate(self) -> Duplicate | None:
        """Return the first key or table that is defined twice, if there is one."""
        return self._scan.duplicate

    def long_key_line(self) -> int | None:
        """Return the 1-based line of a key of more than `MAX_KEY_PARTS` parts, if there is one.

        Such a key ends the scan.
        """
        # A key is on one line, and hardly any file has a line with so many dots.
        if all(line.count(".") < MAX_KEY_PARTS for line in self.text.split("\n")):
            return None
        return self._scan.long_key_line

    def _find(self, place: Place) -> tuple[int, int]:
        lines = self._scan.lines
        for end in range(len(place), 0, -1):
            found = lines.get(place[:end]) or self._scan.parents.get(place[:end])
            if found is not None:
                return found
        return (1, 1)

    @cached_property
    def _scan(self) -> _Scan:
        scan = _Scan(self.text)
        scan.run()
        return scan


class _LostError(Exception):
    """The text is not valid TOML from here on."""


class _Scan:
    """One pass over a TOML text that records the line of every key and table header."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Place, tuple[int, int]] = {}
        # Tables that are only implied by a longer name: `a` in `a.b = 1` or `[a.b]`. A header of
        # their own may still follow, which is not a duplicate.
        self.parents: dict[Place, tuple[int, int]] = {}
        self.duplicate: Duplicate | None = None
        self.long_key_line: int | None = None
        self._text = text
        self._pos = 0
        self._newlines = [found.start() for found in re.finditer("\n", text)]
        self._table: Place = ()
        self._arrays: dict[Place, int] = {}

    def run(self) -> None:
        try:
            self._skip(_BLANK)
            while self._pos < len(self._text):
                self._statement()
                self._skip(_BLANK)
        except _LostError:
            return

    def _statement(self) -> None:
        if self._take("[["):
            self._header(array=True)
        elif self._take("["):
            self._header(array=False)
        else:
            self._pair(self._table, 0)

    def _header(self, *, array: bool) -> None:
        self._skip(_SPACE)
        start = self._pos
        place: Place = ()
        parts = self._key()
        for number, part in enumerate(parts, 1):
            place = (*place, part)
            if number < len(parts) or not array:
                place = self._into_last(place)
        if array:
            index = self._arrays.get(place, -1) + 1
            self._arrays[place] = index
            place = (*place, index)
        self._note(place, start)
        self._table = place
        self._expect("]]" if array else "]")

    def _into_last(self, place: Place) -> Place:
        """Return the last element of an array of tables: a header under it belongs to that."""
        index = self._arrays.get(place)
        return place if index is None else (*place, index)

    def _pair(self, table: Place, depth: int) -> None:
        start = self._pos
        place = (*table, *self._key())
        self._expect("=")
        self._skip(_SPACE)
        self._note(place, start)
        self._value(place, depth)

    def _value(self, place: Place, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _LostError
        if self._take("["):
            self._array(place, depth)
        elif self._take("{"):
            self._inline_table(place, depth)
        elif not self._skip(_STRING) and not self._skip(_SCALAR):
            raise _LostError

    def _array(self, place: Place, depth: int) -> None:
        index = 0
        self._skip(_BLANK)
        while not self._take("]"):
            element = (*place, index)
            self.lines[element] = (self._line(self._pos), self._content_line())
            self._value(element, depth + 1)
            self._skip(_BLANK)
            index += 1
            if not self._take(","):
                self._expect("]")
                return
            self._skip(_BLANK)

    def _inline_table(self, place: Place, depth: int) -> None:
        self._skip(_BLANK)
        while not self._take("}"):
            self._pair(place, depth + 1)
            self._skip(_BLANK)
            if not self._take(","):
                self._expect("}")
                return
            self._skip(_BLANK)

    def _key(self) -> list[str]:
        parts = [self._key_part()]
        self._skip(_SPACE)
        while self._take("."):
            self._skip(_SPACE)
            parts.append(self._key_part())
            self._skip(_SPACE)
            if len(parts) > MAX_KEY_PARTS:
                self.long_key_line = self._line(self._pos)
                raise _LostError
        return parts

    def _key_part(self) -> str:
        bare = self._skip(_BARE_KEY)
        if bare:
            return bare
        quoted = self._skip(_STRING)
        if not quoted or quoted.startswith(("'''", '"""')):
            raise _LostError
        if "\\" not in quoted or quoted[0] == "'":
            return quoted[1:-1]
        try:
            return str(tomllib.loads(f"key = {quoted}")["key"])
        except tomllib.TOMLDecodeError:
            raise _LostError from None

    def _note(self, place: Place, start: int) -> None:
        line = self._line(start)
        for end in range(1, len(place)):
            self.parents.setdefault(place[:end], (line, line))
        known = self.lines.get(place)
        if known is None:
            self.lines[place] = (line, self._content_line())
        elif self.duplicate is None:
            name = ".".join(str(part) for part in place if isinstance(part, str))
            self.duplicate = Duplicate(name, known[0], line)

    def _content_line(self) -> int:
        """Return the line on which the text of a string value at the cursor begins.

        TOML drops a line break that directly follows an opening ``'''``.
        """
        line = self._line(self._pos)
        if self._text.startswith(("'''", '"""'), self._pos):
            rest = self._text[self._pos + 3 : self._pos + 5]
            if rest.startswith(("\n", "\r\n")):
                return line + 1
        return line

    def _line(self, offset: int) -> int:
        return bisect_left(self._newlines, offset) + 1

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._pos)
        if found is None:
            return ""
        self._pos = found.end()
        return found[0]

    def _take(self, token: str) -> bool:
        if self._text.startswith(token, self._pos):
            self._pos += len(token)
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise _LostError
