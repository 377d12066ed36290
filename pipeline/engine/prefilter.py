r"""The search on raw bytes that spares decoding: no literal of any rule, no match.

Each rule's query demands that one of a few texts stand in the event (`pipeline.kql.Literals`). They
are texts that JSON has one way to write, but for one: any character may be given as an escape,
``\u0061``. A value with an escape that could spell a character of a literal is therefore not
judged here. The same holds for the two non-ASCII characters whose lower case is ASCII (the Kelvin
sign and the dotted capital I), where a literal is searched without regard to case.

All texts of all rules are one database of Hyperscan, so the search costs one pass over the bytes
whether there is one rule or hundreds (docs/adr/0004-filter-below-faust.md has the figures). It
works on one value as on a whole decompressed batch of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import hyperscan

from pipeline.rules.ruleset import RuleSet

# An escape of a printable ASCII character, which includes all that a literal may hold.
_SPELLED: Final = rb"\\u00[2-7][0-9A-Fa-f]"
# Characters outside ASCII that lower-case to ASCII letters, as UTF-8 and as escapes.
_FOLDED: Final = rb"\xe2\x84\xaa|\xc4\xb0|\\u212[aA]|\\u0130"


class Prefilter:
    """A multi-literal search. Not for two threads at once: the search has one scratch space.

    Attributes:
        enabled: whether it can tell anything; if not, `may_match` is always true.
        needles: the texts searched as they are.
        caseless_needles: the texts searched without regard to ASCII case, in lower case.
        unselective: ids of the rules that have no literal, each of which disables the search.
    """

    __slots__ = ("_database", "caseless_needles", "enabled", "needles", "unselective")

    def __init__(
        self,
        needles: Iterable[str] = (),
        caseless_needles: Iterable[str] = (),
        unselective: Iterable[str] = (),
    ) -> None:
        self.caseless_needles = _shortest({text.lower().encode() for text in caseless_needles})
        # What a caseless needle finds anyway need not be searched twice.
        self.needles = tuple(
            needle
            for needle in _shortest({text.encode() for text in needles})
            if not any(other in needle.lower() for other in self.caseless_needles)
        )
        self.unselective = tuple(unselective)
        self.enabled = not self.unselective and bool(self.needles or self.caseless_needles)
        self._database = self._compile() if self.enabled else None

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
        if self._database is None:
            return True
        try:
            self._database.scan(data, match_event_handler=_stop)
        except hyperscan.ScanTerminated:
            return True
        return False

    def _compile(self) -> Any:
        patterns = [(re.escape(needle), 0) for needle in self.needles]
        patterns += [
            (re.escape(needle), hyperscan.HS_FLAG_CASELESS) for needle in self.caseless_needles
        ]
        patterns.append((_SPELLED, 0))
        if self.caseless_needles:
            patterns.append((_FOLDED, 0))
        database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        database.compile(
            expressions=[pattern for pattern, _ in patterns],
            ids=list(range(len(patterns))),
            elements=len(patterns),
            flags=[flags | hyperscan.HS_FLAG_SINGLEMATCH for _, flags in patterns],
        )
        return database


def _stop(*_: object) -> bool:
    """Tell Hyperscan that one match is enough."""
    return True


def _shortest(texts: set[bytes]) -> tuple[bytes, ...]:
    """Return the texts without those that contain another one, in a stable order."""
    kept: list[bytes] = []
    for text in sorted(texts, key=lambda text: (len(text), text)):
        if not any(other in text for other in kept):
            kept.append(text)
    return tuple(kept)
