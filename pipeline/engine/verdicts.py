"""Verdicts on events that read alike: what rules said of one holds for the other.

Nearly all events that a broad rule matches differ in what no rule reads: times, numbers of
processes, hashes. What the rules can depend on is taken of an event without decoding it, by code
that is not Python (`firstseen-native`), and what the rules said of the first such event is
remembered. A verdict depends on that and on nothing else, so it is exact; where rules read more
than known fields, or an event is written in an unusual way, nothing is remembered.

The time of an event is no part of it, and is told beside it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import msgspec

from pipeline.engine.decode import DecodeLimits
from pipeline.engine.index import DATA_STREAM_FIELDS
from pipeline.engine.match import Disposition, Outcome
from pipeline.engine.timestamp import TIMESTAMP
from pipeline.rules.reads import paths_read
from pipeline.rules.ruleset import RuleSet

_NATIVE: Final = "firstseen_native"

_MAX_EVENT_BYTES: Final = 65_536
"""Of larger events nothing is remembered: their size limits what rules may take for them."""

_MAX_SIGHTINGS: Final = 16
"""Nor of events with more term tuples, or that more rules match: such a verdict weighs many times
what it is remembered by, and the event's size would limit what each of the rules may take."""

_MAX_ENTRIES: Final = 16_384
_MAX_KEY_BYTES: Final = 8 << 20
"""So many verdicts, and so many bytes of what they are remembered by; those not used for longest go
first."""

_ROUND: Final = 8_192
_RARE: Final = 16
_REST: Final = 131_072
"""Where for a round less than one of sixteen events is known, the next ones are not looked up."""


class Sighted(msgspec.Struct, frozen=True, gc=False):
    """A term tuple that a rule saw: the key of its observation, and the length of the history."""

    key: bytes
    window_ms: int


class Verdict(msgspec.Struct, frozen=True):
    """What rules said of an event.

    Attributes:
        outcome: what the match stage returned, without what was seen.
        sighted: what was seen.
    """

    outcome: Outcome
    sighted: tuple[Sighted, ...]


class Alike(msgspec.Struct, frozen=True):
    """What is known of an event before it is judged.

    Attributes:
        taken: what the rules can depend on.
        time: the text of its ``@timestamp``, the only time field that it has; None if it has none.
        verdict: what they said of an event of which the same was taken.
    """

    taken: bytes
    time: str | None
    verdict: Verdict | None


Take = Callable[[bytes], tuple[bytes, str | None] | None]


class Verdicts:
    """Remembers verdicts. Not for two threads at once.

    Args:
        take: what the rules can depend on of an event, and its time (`native_take`).
        max_bytes: what the decoder takes.
    """

    def __init__(self, take: Take, max_bytes: int = _MAX_EVENT_BYTES) -> None:
        self._take = take
        self._max_bytes = min(max_bytes, _MAX_EVENT_BYTES)
        self._verdicts: OrderedDict[bytes, Verdict] = OrderedDict()
        self._bytes = 0
        self._asked = self._known = self._rest = 0

    def __len__(self) -> int:
        return len(self._verdicts)

    def look(self, event: bytes | None) -> Alike | None:
        """Return what is known of a record's value; None if nothing can be."""
        if self._rest:
            self._rest -= 1
            return None
        if event is None or len(event) > self._max_bytes:
            return None
        taken = self._take(event)
        if taken is None:
            self._count(known=False)
            return None
        verdict = self._verdicts.get(taken[0])
        self._count(known=verdict is not None)
        if verdict is not None:
            self._verdicts.move_to_end(taken[0])
        return Alike(*taken, verdict)

    def learn(self, taken: bytes, outcome: Outcome) -> None:
        """Remember what was said of an event, if it holds for all of which the same is taken."""
        if (
            outcome.error is not None
            or outcome.failures
            or outcome.new_terms  # alerts, each with its own event
            or outcome.documents != 1
            or outcome.disposition is Disposition.SKIPPED
            or max(len(outcome.seen), len(outcome.matches)) > _MAX_SIGHTINGS
        ):
            return
        if taken not in self._verdicts:
            self._bytes += len(taken)
        self._verdicts[taken] = Verdict(
            # Whether its time was usable is said of that event alone.
            msgspec.structs.replace(outcome, seen=(), future_capped=0, untimed=()),
            tuple(Sighted(seen.key, seen.match.window_ms) for seen in outcome.seen),
        )
        while len(self._verdicts) > _MAX_ENTRIES or self._bytes > _MAX_KEY_BYTES:
            forgotten, _ = self._verdicts.popitem(last=False)
            self._bytes -= len(forgotten)

    def _count(self, *, known: bool) -> None:
        self._asked += 1
        self._known += known
        if self._asked == _ROUND:
            if self._known * _RARE < self._asked:
                self._rest = _REST
            self._asked = self._known = 0


def native_take(ruleset: RuleSet, limits: DecodeLimits, *, match_index: bool) -> Take | None:
    """Return what takes of an event what the rules of a set can depend on.

    Args:
        ruleset: the rules.
        limits: what the decoder would refuse.
        match_index: whether a rule's index patterns are asked.

    Returns:
        None where that is not known: a rule reads more than known fields, or a time in a way of its
        own. See `pipeline.rules.reads`.

    Raises:
        ModuleNotFoundError: `firstseen-native` is not installed.
    """
    fields: set[str] = set(DATA_STREAM_FIELDS if match_index else ())
    unexpected: set[str] = set()
    for compiled in ruleset.runnable:
        rule, paths = compiled.rule, paths_read(compiled)
        override = rule.timestamp_override
        if paths is None or (override and rule.timestamp_override_fallback_disabled):
            return None
        fields |= paths
        if override and override != TIMESTAMP:
            unexpected.add(override)
    # A path with no end of points would need a way of its own, and no field has one.
    if any(not all(path.split(".")) for path in fields | unexpected):
        return None
    native: Any = import_module(_NATIVE)
    take: Take = native.Projection(
        sorted(fields), TIMESTAMP, sorted(unexpected), limits.max_depth, limits.max_values
    ).take
    return take
