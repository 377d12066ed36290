r"""The search on raw bytes that spares decoding: no rule's needles, no match.

Each rule's query demands that certain texts stand in the event (`pipeline.kql.needles`). They are
looked for in two steps. Many records at once are searched for the `anchors`, a few needles of which
at least one stands in everything that matches. What holds one is searched for all needles, and has
to answer all clauses of some rule. The first is the search of `text_search`, the second one pass of
Hyperscan over the record, whether there is one rule or hundreds
(docs/adr/0006-filter-below-faust.md and 0010-many-rules.md have the figures).

Escapes that spell a character of a needle otherwise are looked for too, and undone where they stand
(`pipeline.engine.spelling`): a record is told from one that matches by what it means.
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
from pipeline.engine.text_search import Data, Place, TextSearch, text_searches
from pipeline.kql import Clause, Needle
from pipeline.kql.literal_search import literal_database
from pipeline.rules.ruleset import RuleSet

_MIN_COMMON: Final = 12
"""Texts that begin alike for so many bytes are searched by what they have in common."""

_OPEN: Final = 8
"""A spelling so long is searched without its last quote: nearly all strings end alike."""

_SAMPLE_BYTES: Final = 256 << 10
_FIRST_PAUSE_BYTES: Final = 1 << 20
_LONGEST_PAUSE_BYTES: Final = 256 << 20
"""Samples are taken at the start, then after pauses that double from the first to the longest."""

_WINDOW_BYTES: Final = 1 << 20
"""So much is searched at once: what may be found in it takes forty times as much."""

_WORTH_IT: Final = 0.02
"""Other anchors are taken if that saves so many hits an event."""

_REMEMBERED: Final = 4096
"""Combinations of answered clauses whose verdict is remembered."""


class Prefilter:
    """A search for the needles of many rules. Not for two threads at once.

    Attributes:
        enabled: whether it can tell anything; if not, `may_match` is always true.
        anchors: what many records are searched for; they follow what the traffic holds.
        unselective: ids of the rules without a clause, each of which disables the search.
    """

    def __init__(self, requirements: Mapping[str, tuple[Clause, ...]]) -> None:
        """Prepare the search.

        Args:
            requirements: by the id of each rule, its clauses (`required_clauses`).
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
        self._places: tuple[Callable[[Data], list[Place]], ...] = ()
        self._counts = NeedleCounts()
        self._sampled = 0
        self._pause = _FIRST_PAUSE_BYTES

    @classmethod
    def from_ruleset(cls, ruleset: RuleSet) -> Prefilter:
        """Return the search for the rules of a set that are run."""
        return cls({each.rule.rule_id: each.clauses for each in ruleset.runnable})

    def may_match(self, data: Data) -> bool:
        """Return False only if no rule can match an event in `data`."""
        if not self.enabled:
            return True
        self._watch(data)
        return any(search.finds(data) for search in self._anchored) and self.answers(data)

    def answers(self, data: Data) -> bool:
        """Return what `may_match` does, sooner where one of the `positions` lies in `data`."""
        return not self.enabled or self._clauses.answered(data)

    def positions(self, data: Data) -> list[int]:
        """Return where in `data` something stands that makes `may_match` true, or might.

        They come in any order. Each is that of the last byte of a needle or of the beginning of an
        escape, or of what follows. Where none lies in an event's text, no rule can match it. A
        search that is not `enabled` has no positions to tell, so do not ask it.
        """
        if not self.enabled:
            return []
        self._watch(data)
        if len(data) > _WINDOW_BYTES:
            return self._positions_by_window(data)
        found: list[Place] = []
        for places in self._places:
            found += places(data)
        return [end - 1 for _, _, end in found] if found else []

    @property
    def texts(self) -> tuple[bytes, ...]:
        """Texts whose case counts, one of which ends at each of the `positions`; see there.

        Empty if they are searched without regard to case, or not chosen yet.
        """
        return self._texts

    @property
    def unwatched_bytes(self) -> int:
        """How many bytes may be searched for `texts` elsewhere until `positions` has to see some.

        The texts are chosen by samples of the traffic.
        """
        return self._until_sample

    def searched(self, size: int) -> None:
        """Note that so many bytes were searched for `texts` elsewhere."""
        self._until_sample -= size

    def _positions_by_window(self, data: Data) -> list[int]:
        """Return positions, some of them twice, in little more memory than they take themselves."""
        overlap = max(search.longest for search in self._anchored) - 1
        view, size = memoryview(data), _WINDOW_BYTES
        return [
            start + end - 1
            for start in range(0, len(data), size)
            for places in self._places
            for _, _, end in places(view[start : start + size + overlap])
        ]

    def _watch(self, data: Data) -> None:
        """Count a sample of the traffic from time to time, and choose the anchors by it."""
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
        """Choose the anchors anew; keep the present ones if they are nearly as good."""
        best, price = choose_anchors(self._requirements, self._counts), self._counts.price
        if not self._anchored or price(self.anchors) > price(best) + _WORTH_IT:
            self.anchors = best
            texts = (*_anchor_texts(best, self._counts), *self._clauses.marks)
            self._anchored = text_searches(texts)
            caseless = any(folded for _, folded in texts)
            self._texts = () if caseless else tuple(text for text, _ in texts)
            self._places = tuple(search.places for search in self._anchored)


class _Clauses:
    """The clauses of all rules, and the search that tells which of them a record answers.

    Attributes:
        marks: what has to be searched besides needles, as `literal_database` takes it.
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
        # By number of a text in the database: what it answers, and whether a key may look like it.
        self._bits = tuple(bits.values())
        self._ends = tuple(needle.ends for needle in bits)
        self._needs = {sum(bit_of[clause] for clause in set(clauses)) for clauses in requirements}
        self._verdicts: dict[int, bool] = {}
        texts = [(spelling(needle), needle.caseless) for needle in bits]
        self.marks = tuple(_marks(bits))
        self._database = literal_database(chain(texts, self.marks))
        self._answers = 0
        self._marked = False

    def answered(self, data: Data) -> bool:
        """Whether `data` answers all clauses of some rule."""
        answers = self._search(data)
        if self._marked:
            answers = self._search(plain(data))
        verdict = self._verdicts.get(answers)
        if verdict is None:
            verdict = any(need & answers == need for need in self._needs)
            if len(self._verdicts) >= _REMEMBERED:
                self._verdicts.clear()
            self._verdicts[answers] = verdict
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
        self._answers, self._marked = 0, False
        self._database.scan(data, match_event_handler=self._found, context=data)
        return self._answers

    def _found(self, number: int, _start: int, end: int, _flags: int, data: Any) -> None:
        if number >= len(self._bits):
            self._marked = True
        elif not self._ends[number] or is_value(data, end):
            self._answers |= self._bits[number]


def _anchor_texts(anchors: Iterable[Needle], counts: NeedleCounts) -> Iterator[tuple[bytes, bool]]:
    """Yield what to search to find these needles, each with whether its case does not count.

    Texts that are no needle may be found as well: what is found is searched again.
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
    """Yield the texts that tell of another spelling of these needles."""
    yield ESCAPE_MARK, False
    if any(map(is_folded, needles)):
        yield from ((mark, False) for mark in FOLDED_MARKS)


def _merged(texts: set[bytes]) -> list[bytes]:
    """Return fewer texts, one of which stands wherever one of the given ones does."""
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
