"""Verdicts on events that read alike: what rules said of one holds for the other.

Nearly all events that a broad rule matches differ in what no rule reads: times, numbers of
processes, hashes. What the rules can depend on is taken of an event without decoding it, by code
that is not Python (`firstseen-native`), and what the rules said of the first such event is
remembered. A verdict depends on that and on nothing else, so it is exact; where rules read more
than known fields, or an event is written in an unusual way, nothing is remembered.

The time of an event is no part of it, and is told beside it.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import msgspec

from pipeline.engine.decode import DecodeLimits
from pipeline.engine.index import DATA_STREAM_FIELDS
from pipeline.engine.match import Disposition, Outcome
from pipeline.engine.timestamp import TIMESTAMP
from pipeline.rules.reads import paths_read
from pipeline.rules.ruleset import RuleSet

_MAX_EVENT_BYTES: Final = 65_536
"""Of larger events nothing is remembered: their size limits what rules may take for them."""

_MAX_SIGHTINGS: Final = 16
"""Nor of events with more term tuples, or that more rules match: such a verdict weighs a lot, and
the event's size would limit what each of the rules may take."""

_MAX_ENTRIES: Final = 32_768
"""So many verdicts are kept; those not used for longest go first."""

_MAX_OUTCOMES: Final = 1_024
"""Verdicts that say the same share it, as long as there are no more different ones."""

_DIGEST_BYTES: Final = 16

_ROUND: Final = 2 * _MAX_ENTRIES
_RARE: Final = 16
_REST: Final = 4 * _ROUND
"""Where for a round less than one of sixteen events is known, the next ones are not looked up. A
round is longer than it takes to get to know all that can be remembered."""


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
        digest: stands for what the rules can depend on.
        time: the text of its ``@timestamp``, the only time field that it has; None if it has none.
        verdict: what they said of an event of which the same was taken.
    """

    digest: bytes
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
        self._outcomes: dict[Outcome, Outcome] = {}
        # Nobody can find two events of one digest who does not know the key.
        self._key = secrets.token_bytes(blake2b.MAX_KEY_SIZE)
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
        digest = blake2b(taken[0], digest_size=_DIGEST_BYTES, key=self._key).digest()
        verdict = self._verdicts.get(digest)
        self._count(known=verdict is not None)
        if verdict is not None:
            self._verdicts.move_to_end(digest)
        return Alike(digest, taken[1], verdict)

    def learn(self, digest: bytes, outcome: Outcome) -> None:
        """Remember what was said of an event, if it holds for all that read alike."""
        if (
            outcome.error is not None
            or outcome.failures
            or outcome.new_terms  # alerts, each with its own event
            or outcome.documents != 1
            or outcome.disposition is Disposition.SKIPPED
            or max(len(outcome.seen), len(outcome.matches)) > _MAX_SIGHTINGS
        ):
            return
        sighted = tuple(Sighted(seen.key, seen.match.window_ms) for seen in outcome.seen)
        self._verdicts[digest] = Verdict(self._shared(outcome), sighted)
        if len(self._verdicts) > _MAX_ENTRIES:
            self._verdicts.popitem(last=False)

    def _shared(self, outcome: Outcome) -> Outcome:
        """Return what an outcome says of all events that read alike, as one object for many."""
        # Whether its time was usable is said of that event alone.
        said = msgspec.structs.replace(outcome, seen=(), future_capped=0, untimed=())
        if len(self._outcomes) >= _MAX_OUTCOMES:
            self._outcomes.clear()
        return self._outcomes.setdefault(said, said)

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
    import firstseen_native  # noqa: PLC0415 - it need not be installed

    take: Take = firstseen_native.Projection(
        sorted(fields), TIMESTAMP, sorted(unexpected), limits.max_depth, limits.max_values
    ).take
    return take
