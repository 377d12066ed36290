r"""The search on raw bytes that avoids decoding: without a rule's needles there is no match.

Each rule's query requires certain texts in the event (`pipeline.kql.needles`). The search for them
has two steps:

1. Many records at once are searched for the `anchors`: a few needles, at least one of which is in
   everything that matches. This is the search of `text_search`.
2. Whatever contains an anchor is searched for all needles, and has to satisfy all clauses of some
   rule. This is one pass of Hyperscan over the record, whether there is one rule or hundreds.

The figures are in docs/adr/0006-filter-below-faust.md and 0010-many-rules.md.

The search also looks for escapes that spell a character of a needle differently, and decodes them
where it finds any (`pipeline.engine.spelling`). So it does not matter how a record spells its
texts, only what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final

from pipeline.engine.anchors import NeedleCounts, choose_anchors
from pipeline.engine.spelling import (
    ESCAPE_MARK,
    FOLDED_MARKS,
    closed_spellings,
    is_folded,
    is_value,
    plain,
    spelling,
)
from pipeline.engine.text_search import Data, Hit, TextSearch, text_searches
from pipeline.kql import Clause, Needle
from pipeline.kql.literal_search import literal_database
from pipeline.rules.ruleset import RuleSet

_MIN_COMMON: Final = 12
"""Texts that share a beginning of at least this many bytes are searched for by that beginning."""

_OPEN: Final = 8
"""A needle spelled with more bytes than this is searched for without its closing quote, since
nearly all strings end alike."""

_SAMPLE_BYTES: Final = 256 << 10
_FIRST_PAUSE_BYTES: Final = 1 << 20
_LONGEST_PAUSE_BYTES: Final = 256 << 20
"""A sample is taken at the start, then after pauses that double from the first to the longest."""

_WINDOW_BYTES: Final = 1 << 20
"""How much is searched at once: the positions found may take forty times as much memory."""

_WORTH_IT: Final = 0.02
"""The anchors are replaced if that saves at least this many hits per event."""

_REMEMBERED: Final = 4096
"""How many combinations of satisfied clauses have their verdict cached."""


class Prefilter:
    """A search for the needles of many rules. Not thread-safe.

    Attributes:
        enabled: whether it can rule out anything; if not, `may_match` is always True.
        anchors: the needles that many records are searched for; they adapt to the traffic.
        unselective: the ids of rules without a clause; any such rule disables the search.
    """

    def __init__(self, requirements: Mapping[str, tuple[Clause, ...]]) -> None:
        """Prepare the search.

        Args:
            requirements: the clauses of each rule (`required_clauses`), by rule id.
        """
        self.unselective = tuple(rule for rule, clauses in requirements.items() if not clauses)
        self.enabled = bool(requirements) and not self.unselective
        self.anchors: frozenset[Needle] = frozenset()
        self._texts: tuple[bytes, ...] = ()
        self._until_sample = 0
        if not self.enabled:
            return
        self._requirements = tuple(dict.fromkeys(requirements.values()))
        self._clauses = _Clauses(self._requirements)
        self._anchored: tuple[TextSearch, ...] = ()
        self._find: tuple[Callable[[Data], list[Hit]], ...] = ()
        self._counts = NeedleCounts()
        self._sampled = 0
        self._pause = _FIRST_PAUSE_BYTES

    @classmethod
    def from_ruleset(cls, ruleset: RuleSet) -> Prefilter:
        """Return the search for the runnable rules of a set."""
        return cls({each.rule.rule_id: each.clauses for each in ruleset.runnable})

    def may_match(self, data: Data) -> bool:
        """Return False only if no rule can match an event in `data`."""
        if not self.enabled:
            return True
        self._watch(data)
        return any(search.finds(data) for search in self._anchored) and self.satisfies_a_rule(data)

    def satisfies_a_rule(self, data: Data) -> bool:
        """Return the same as `may_match`, but faster if one of the `positions` is in `data`."""
        return not self.enabled or self._clauses.satisfies_a_rule(data)

    def positions(self, data: Data) -> list[int]:
        """Return the positions in `data` that may make `may_match` true.

        They come in any order. Each is the position of the last byte of a needle, of the beginning
        of an escape, or of what follows. If an event's text contains none of them, no rule can
        match it. A search that is not `enabled` has no positions; do not call this then.
        """
        if not self.enabled:
            return []
        self._watch(data)
        if len(data) > _WINDOW_BYTES:
            return self._positions_by_window(data)
        hits: list[Hit] = []
        for find in self._find:
            hits += find(data)
        return [end - 1 for _, _, end in hits] if hits else []

    @property
    def texts(self) -> tuple[bytes, ...]:
        """Case-sensitive texts, one of which ends at each of the `positions`.

        Empty if the search is case-insensitive, or if the texts have not been chosen yet.
        """
        return self._texts

    @property
    def unwatched_bytes(self) -> int:
        """How many bytes may be searched for `texts` elsewhere before `positions` has to see some.

        The texts are chosen from samples of the traffic.
        """
        return self._until_sample

    def note_searched(self, size: int) -> None:
        """Record that this many bytes were searched for `texts` elsewhere."""
        self._until_sample -= size

    def _positions_by_window(self, data: Data) -> list[int]:
        """Return the positions, some of them twice, with little memory beyond the result."""
        overlap = max(search.longest for search in self._anchored) - 1
        view, size = memoryview(data), _WINDOW_BYTES
        return [
            start + end - 1
            for start in range(0, len(data), size)
            for find in self._find
            for _, _, end in find(view[start : start + size + overlap])
        ]

    def _watch(self, data: Data) -> None:
        """Take a sample of the traffic from time to time, to choose the anchors by."""
        self._until_sample -= len(data)
        if self._until_sample <= 0:
            self._sample(data)

    def _sample(self, data: Data) -> None:
        self._clauses.count(data, self._counts)
        self._sampled += len(data)
        if self._sampled >= _SAMPLE_BYTES or not self._anchored:
            self._review()
        if self._sampled >= _SAMPLE_BYTES:
            self._sampled = 0
            self._until_sample = self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_BYTES)
            self._counts.fade()

    def _review(self) -> None:
        """Choose the anchors again, but keep the present ones if they are nearly as good."""
        best, price = choose_anchors(self._requirements, self._counts), self._counts.price
        if not self._anchored or price(self.anchors) > price(best) + _WORTH_IT:
            self.anchors = best
            texts = (*_anchor_texts(best, self._counts), *self._clauses.marks)
            self._anchored = text_searches(texts)
            caseless = any(folded for _, folded in texts)
            self._texts = () if caseless else tuple(text for text, _ in texts)
            self._find = tuple(search.hits for search in self._anchored)


class _Clauses:
    """The clauses of all rules, and the search for those that a record satisfies.

    Attributes:
        marks: what has to be searched for besides needles, in the form `literal_database` takes.
    """

    def __init__(self, requirements: Iterable[tuple[Clause, ...]]) -> None:
        requirements = tuple(requirements)
        bit_of: dict[Clause, int] = {}
        for clause in chain.from_iterable(requirements):
            bit_of.setdefault(clause, 1 << len(bit_of))
        bits: dict[Needle, int] = {}
        for clause, bit in bit_of.items():
            for needle in clause:
                bits[needle] = bits.get(needle, 0) | bit
        self._needles = tuple(bits)
        # By number of a text in the database: the clauses it satisfies, and whether a key may look
        # like it.
        self._bits = tuple(bits.values())
        self._ends = tuple(needle.ends for needle in bits)
        self._needs = {sum(bit_of[clause] for clause in set(clauses)) for clauses in requirements}
        self._verdicts: dict[int, bool] = {}
        texts = [(spelling(needle), needle.caseless) for needle in bits]
        self.marks = tuple(_marks(bits))
        self._database = literal_database(chain(texts, self.marks))
        self._satisfied = 0
        self._marked = False

    def satisfies_a_rule(self, data: Data) -> bool:
        """Whether `data` satisfies all clauses of some rule."""
        satisfied = self._search(data)
        if self._marked:
            satisfied = self._search(plain(data))
        verdict = self._verdicts.get(satisfied)
        if verdict is None:
            verdict = any(need & satisfied == need for need in self._needs)
            if len(self._verdicts) >= _REMEMBERED:
                self._verdicts.clear()
            self._verdicts[satisfied] = verdict
        return verdict

    def count(self, data: Data, counts: NeedleCounts) -> None:
        """Count the needles in `data`."""

        def found(number: int, _start: int, end: int, *_: object) -> None:
            if number < len(self._needles):
                needle = self._needles[number]
                is_key = needle.ends and not is_value(data, end)
                (counts.keys if is_key else counts.values)[needle] += 1

        self._database.scan(data, match_event_handler=found)
        counts.bytes += len(data)

    def _search(self, data: Data) -> int:
        self._satisfied, self._marked = 0, False
        self._database.scan(data, match_event_handler=self._found, context=data)
        return self._satisfied

    def _found(self, number: int, _start: int, end: int, _flags: int, data: Any) -> None:
        if number >= len(self._bits):
            self._marked = True
        elif not self._ends[number] or is_value(data, end):
            self._satisfied |= self._bits[number]


def _anchor_texts(anchors: Iterable[Needle], counts: NeedleCounts) -> Iterator[tuple[bytes, bool]]:
    """Yield the texts to search for to find these needles, each with whether to ignore its case.

    The texts may also be found where there is no needle: whatever is found is searched again.
    """
    anchors = sorted(anchors)
    for caseless in (False, True):
        texts: set[bytes] = set()
        for needle in anchors:
            if needle.caseless is not caseless:
                continue
            if needle.ends and counts.keys[needle]:
                texts.update(closed_spellings(needle))
                continue
            text = spelling(needle)
            texts.add(text[:-1] if needle.ends and len(text) > _OPEN else text)
        yield from ((text, caseless) for text in _merged(texts))


def _marks(needles: Iterable[Needle]) -> Iterator[tuple[bytes, bool]]:
    """Yield the texts that indicate a different spelling of these needles."""
    yield ESCAPE_MARK, False
    if any(map(is_folded, needles)):
        yield from ((mark, False) for mark in FOLDED_MARKS)


def _merged(texts: set[bytes]) -> list[bytes]:
    """Return fewer texts, such that one of them is wherever one of the given texts is."""
    merged: list[bytes] = []
    for text in sorted(texts):
        common = _common_start(merged[-1], text) if merged else b""
        if len(common) >= _MIN_COMMON:
            merged[-1] = common
        else:
            merged.append(text)
    return merged


def _common_start(one: bytes, other: bytes) -> bytes:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return one[:length]
