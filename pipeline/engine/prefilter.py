r"""The search on raw bytes that spares decoding: no literal of any rule, no match.

Each rule's query demands that one of a few texts stand in the event (`pipeline.kql.Literals`). They
are texts that JSON has one way to write, but for one: any character may be given as an escape,
``\u0061``. A value with an escape that could spell a character of a literal is therefore not
judged here. The same holds for the two non-ASCII characters whose lower case is ASCII (the Kelvin
sign and the dotted capital I), where a literal is searched without regard to case.

All texts of all rules are one database of Hyperscan, so the search costs one pass over the bytes
whether there is one rule or hundreds (docs/adr/0006-filter-below-faust.md has the figures). It
works on one value as on a whole decompressed batch of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import hyperscan

from pipeline.rules.ruleset import RuleSet

# An escape of a printable ASCII character, which includes all that a literal may hold. The search
# looks for its fixed beginning; only where that stands is the rest looked at.
_ESCAPE: Final = rb"\u00"
_SPELLED: Final = re.compile(rb"\\u00[2-7][0-9A-Fa-f]")
# Characters outside ASCII that lower-case to ASCII letters, as UTF-8 and as escapes.
_FOLDED: Final = (b"\xe2\x84\xaa", b"\xc4\xb0", rb"\u212a", rb"\u212A", rb"\u0130")

_MIN_COMMON: Final = 12
"""Texts that begin alike for so many bytes are searched by what they have in common."""


class Prefilter:
    """A multi-literal search. Not for two threads at once: the search has one scratch space.

    Attributes:
        enabled: whether it can tell anything; if not, `may_match` is always true.
        needles: the texts searched as they are.
        caseless_needles: the texts searched without regard to ASCII case, in lower case.
        unselective: ids of the rules that have no literal, each of which disables the search.
    """

    __slots__ = (
        "_all",
        "_any",
        "_escaped",
        "_positions",
        "caseless_needles",
        "enabled",
        "needles",
        "unselective",
    )

    def __init__(
        self,
        needles: Iterable[str] = (),
        caseless_needles: Iterable[str] = (),
        unselective: Iterable[str] = (),
    ) -> None:
        self.caseless_needles = _fewest({text.lower().encode() for text in caseless_needles})
        # What a caseless needle finds anyway need not be searched twice.
        self.needles = tuple(
            needle
            for needle in _fewest({text.encode() for text in needles})
            if not any(other in needle.lower() for other in self.caseless_needles)
        )
        self.unselective = tuple(unselective)
        self.enabled = not self.unselective and bool(self.needles or self.caseless_needles)
        self._escaped = False
        self._positions: list[int] = []
        self._any = self._compile(hyperscan.HS_FLAG_SINGLEMATCH) if self.enabled else None
        self._all = self._compile(0) if self.enabled else None

    @classmethod
    def from_ruleset(cls, ruleset: RuleSet) -> Prefilter:
        """Return the search for the rules of a set that are run."""
        exact: set[str] = set()
        caseless: set[str] = set()
        unselective = []
        for compiled in ruleset.runnable:
            if compiled.literals is None:
                unselective.append(compiled.rule.rule_id)
                continue
            exact |= compiled.literals.exact
            caseless |= compiled.literals.caseless
        return cls(exact, caseless, unselective)

    def may_match(self, data: bytes | bytearray | memoryview) -> bool:
        """Return False only if no rule can match an event in `data`."""
        if self._any is None:
            return True
        self._escaped = False
        try:
            self._any.scan(data, match_event_handler=self._found)
        except hyperscan.ScanTerminated:
            return True
        return self._escaped and _SPELLED.search(data) is not None

    def positions(self, data: bytes | bytearray | memoryview) -> list[int]:
        """Return where in `data` something stands that makes `may_match` true, or might.

        Each position is that of the last byte of a literal or of the beginning of an escape. Where
        none lies in an event's text, no rule can match it. A search that is not `enabled` has no
        positions to tell, so do not ask it.
        """
        self._positions = []
        if self._all is not None:
            self._all.scan(data, match_event_handler=self._found_at)
        return self._positions

    def _found_at(self, _number: int, _start: int, end: int, *_: object) -> None:
        self._positions.append(end - 1)

    def _found(self, number: int, *_: object) -> bool:
        """Note what was found; return whether that is enough."""
        if number == 0:
            self._escaped = True
            return False
        return True

    def _compile(self, exact: int) -> Any:
        caseless = exact | hyperscan.HS_FLAG_CASELESS
        literals = [(_ESCAPE, exact), *((needle, exact) for needle in self.needles)]
        literals += [(needle, caseless) for needle in self.caseless_needles]
        if self.caseless_needles:
            literals += [(text, exact) for text in _FOLDED]
        database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        database.compile(
            expressions=[text for text, _ in literals],
            ids=list(range(len(literals))),
            elements=len(literals),
            flags=[flags for _, flags in literals],
            literal=True,
        )
        return database


def _fewest(texts: set[bytes]) -> tuple[bytes, ...]:
    """Return fewer texts, one of which stands wherever one of the given ones does."""
    kept: list[bytes] = []
    for text in sorted(texts, key=lambda text: (len(text), text)):
        if not any(other in text for other in kept):
            kept.append(text)
    merged: list[bytes] = []
    for text in sorted(kept):
        common = _common_start(merged[-1], text) if merged else b""
        if len(common) >= _MIN_COMMON:
            merged[-1] = common
        else:
            merged.append(text)
    return tuple(merged)


def _common_start(one: bytes, other: bytes) -> bytes:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return one[:length]
