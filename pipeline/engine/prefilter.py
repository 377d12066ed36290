r"""The search on raw bytes that spares decoding: no literal of any rule, no match.

Each rule's query demands that one of a few texts stand in the event (`pipeline.kql.Literals`). They
are texts that JSON has one way to write, but for one: any character may be given as an escape,
``\u0061``. A value with an escape that could spell a character of a literal is therefore not
judged here.

The search works on one value as on a whole decompressed batch of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from pipeline.rules.ruleset import RuleSet

MAX_NEEDLES: Final = 48
"""Each needle is one pass over the value, 0.1 to 0.2 microseconds; beyond this number, decoding
is not much dearer than searching."""

# Escapes of printable ASCII, which includes all that a literal may hold.
_SPELLED = re.compile(rb"\\u00[2-7][0-9A-Fa-f]")


class Prefilter:
    """A multi-literal search.

    Attributes:
        enabled: whether it can tell anything; if not, `may_match` is always true.
        needles: the texts searched as they are.
        caseless_needles: the texts searched without regard to ASCII case, in lower case.
        unselective: ids of the rules that have no literal, each of which disables the search.
    """

    __slots__ = ("caseless_needles", "enabled", "needles", "unselective")

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
        number = len(self.needles) + len(self.caseless_needles)
        self.enabled = not self.unselective and 0 < number <= MAX_NEEDLES

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

    def may_match(self, value: bytes) -> bool:
        """Return False only if no rule can match an event in `value`."""
        if not self.enabled:
            return True
        for needle in self.needles:
            if needle in value:
                return True
        if self.caseless_needles:
            lowered = value.lower()
            for needle in self.caseless_needles:
                if needle in lowered:
                    return True
        return b"\\u00" in value and _SPELLED.search(value) is not None


def _shortest(texts: set[bytes]) -> tuple[bytes, ...]:
    """Return the texts without those that contain another one, in a stable order."""
    kept: list[bytes] = []
    for text in sorted(texts, key=lambda text: (len(text), text)):
        if not any(other in text for other in kept):
            kept.append(text)
    return tuple(kept)
