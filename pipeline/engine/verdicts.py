"""Caches verdicts on events: what the rules said of one event holds for all events that read alike.

Nearly all events that a broad rule matches differ only in what no rule reads: times, process
numbers, hashes. Native code (`firstseen-native`) extracts what the rules can depend on from an
event without decoding it, and the rules' verdict on the first such event is remembered. A verdict
depends on that extract and on nothing else, so the cache is exact. If rules read fields that are
not known beforehand, or an event is written in an unusual way, nothing is remembered.

The extract does not include the time of an event, nor the texts of terms that the rules test only a
little (`pipeline.engine.alike`). They are extracted separately, and the term tuples are built from
them.

The native code also writes the observations of an event whose verdict is known, with exactly the
bytes that `pipeline.engine.sighting` would give. This module decides what may be remembered.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from pipeline.engine.alike import ApartTerm, Reader, Spelled, spelled
from pipeline.engine.forwarded import NativeForwardedCache
from pipeline.engine.identity import alert_id_opening, named_identity
from pipeline.engine.match import Disposition, Outcome
from pipeline.engine.wire import RuleRef, observation_opening
from pipeline.rules.compiled import CompiledRule
from pipeline.rules.ruleset import RuleSet
from pipeline.rules.timestamp import usable_time

if TYPE_CHECKING:
    import firstseen_native

_MAX_SIGHTINGS: Final = 16
"""Nothing is remembered of events with more term tuples, or that more rules match. Such a verdict
takes a lot of memory, and the event's size would limit how many tuples each rule may take."""

_MAX_VERDICTS: Final = 32_768

_MAX_OUTCOMES: Final = 1_024
"""Equal verdicts share one object, as long as there are no more different ones than this."""

_ROUND: Final = 2 * _MAX_VERDICTS
"""More events than it takes to fill the cache."""


class CacheSettings(NamedTuple):
    """What the cache keeps, which events are left to the match stage, and when the cache rests.

    Attributes:
        verdicts: the maximum number of verdicts; the least recently used go first.
        texts: the maximum number of texts that are kept of each field that is set apart.
        text_bytes: the maximum size of all those texts together. None has more than 256 bytes,
            since longer ones are not set apart.
        event_bytes: larger events are left to the match stage: their size limits how many tuples
            rules may take from them.
        value_bytes: events for which anything larger would be sent are left to the match stage.
        term_bytes: events whose terms are longer in total are left to the match stage. Terms that
            are set apart do not count.
        future_ms: how far after its arrival an event may be dated.
        round: the number of events after which the cache's usefulness is checked.
        rare: the cache is useful if at least one in this many events of a round is known.
        rest: the number of events that are not looked up after a round without use.
    """

    verdicts: int = _MAX_VERDICTS
    texts: int = 65_536
    text_bytes: int = 32 << 20
    event_bytes: int = 65_536
    value_bytes: int = 1 << 20
    term_bytes: int = 1_024
    future_ms: int = 300_000
    round: int = _ROUND
    rare: int = 16
    rest: int = 4 * _ROUND


class KnownRun(NamedTuple):
    """What is known of a run of records.

    Attributes:
        records: the number of these records, each of which matches some rule.
        next_may_be_known: whether the record after them, if there is one, may be known as well.
        next_matches_nothing: whether the record after them is known to match no rule.
        outcomes: what the match stage would return for them, without `sightings`, each with the
            number of records.
        sent: what is to be sent for them: the key and value of each observation.
        covered: how many more sightings are covered by ones forwarded lately.
        ages: the age in seconds of each event that is sent, once for each observation.
    """

    records: int
    next_may_be_known: bool
    next_matches_nothing: bool
    outcomes: list[tuple[Outcome, int]]
    sent: list[tuple[bytes, bytes]]
    covered: int
    ages: list[float]


class _Rule(NamedTuple):
    """A rule, in the form `firstseen-native` takes."""

    history: bytes
    window_ms: int
    opening: bytes
    id_opening: bytes
    apart: Sequence[ApartTerm]


class Verdicts:
    """A cache of verdicts. Not thread-safe.

    Args:
        ruleset: the rules.
        reader: how events are read for them.
        forwarded: what was forwarded lately.
        settings: what the cache keeps, and when it rests.
    """

    def __init__(
        self,
        ruleset: RuleSet,
        reader: Reader,
        forwarded: NativeForwardedCache | None = None,
        settings: CacheSettings | None = None,
    ) -> None:
        import firstseen_native  # noqa: PLC0415 - it need not be installed

        self.forwarded = NativeForwardedCache() if forwarded is None else forwarded
        rules = [each for each in ruleset.runnable if each.rule.new_terms is not None]
        self._numbers = {each.rule.rule_id: number for number, each in enumerate(rules)}
        self._native: firstseen_native.Verdicts = firstseen_native.Verdicts(
            reader.projection,
            [(each.of, each.absent, each.native) for each in reader.classes],
            [_rule(each, reader.apart[each.rule.rule_id]) for each in rules],
            self.forwarded.cache,
            usable_time,
            _spelled_id,
            # Without the key, nobody can construct two events with the same digest.
            secrets.token_bytes(blake2b.MAX_KEY_SIZE),
            CacheSettings() if settings is None else settings,
        )
        self._outcomes: dict[Outcome, Outcome] = {}

    def __len__(self) -> int:
        return len(self._native)

    def judge(
        self, records: list[Any], start: int, topic: str, partition: int, read_ms: int
    ) -> KnownRun:
        """Return what is known of a run of records, up to one that is not known to match.

        The run also ends once there is a megabyte to send.

        Args:
            records: the records, as from a batch.
            start: the index of the first one.
            topic: their topic.
            partition: their partition.
            read_ms: when they were read (epoch milliseconds).
        """
        return KnownRun(*self._native.judge(records, start, topic, partition, read_ms))

    def remember(self, event: bytes | None, outcome: Outcome) -> None:
        """Remember the outcome for a record's value, if it holds for all events that read alike."""
        if (
            event is None
            or outcome.error is not None
            or outcome.failures
            or outcome.new_terms  # alerts, each with its own event
            or outcome.documents != 1
            or outcome.disposition is Disposition.SKIPPED
            or max(len(outcome.sightings), len(outcome.matches)) > _MAX_SIGHTINGS
        ):
            return
        sighted = [
            (self._numbers[sighting.match.rule.id], [spelled(term) for term in sighting.terms])
            for sighting in outcome.sightings
        ]
        self._native.remember(event, self._shared(outcome), bool(outcome.matches), sighted)

    def digest(self, event: bytes) -> bytes | None:
        """Return a digest that events share if they read alike; None if this one is not cached."""
        return self._native.digest_of(event)

    def _shared(self, outcome: Outcome) -> Outcome:
        """Return what an outcome says of all events that read alike, as a shared object."""
        # Whether its time was usable holds for that event alone.
        common = msgspec.structs.replace(outcome, sightings=(), future_capped=0, untimed=())
        if len(self._outcomes) >= _MAX_OUTCOMES:
            self._outcomes.clear()
        return self._outcomes.setdefault(common, common)


def _rule(compiled: CompiledRule, apart: Sequence[ApartTerm]) -> _Rule:
    rule, new_terms = compiled.rule, compiled.rule.new_terms
    window_ms = 0 if new_terms is None else new_terms.history_ms
    return _Rule(
        history=bytes.fromhex(compiled.history_id),
        window_ms=window_ms,
        opening=observation_opening(RuleRef.of(rule), compiled.history_id, window_ms),
        id_opening=alert_id_opening(rule.rule_id, rule.version),
        apart=apart,
    )


def _spelled_id(event_id: str) -> Spelled:
    return spelled(named_identity(event_id))
