"""Verdicts on events that read alike: what rules said of one holds for the other.

Nearly all events that a broad rule matches differ in what no rule reads: times, numbers of
processes, hashes. What the rules can depend on is taken of an event without decoding it, by code
that is not Python (`firstseen-native`), and what the rules said of the first such event is
remembered. A verdict depends on that and on nothing else, so it is exact; where rules read more
than known fields, or an event is written in an unusual way, nothing is remembered.

The time of an event is no part of it, and neither are texts of terms of which the rules ask little
(`pipeline.engine.alike`): they are told beside it, and the term tuples are made of them.

What is to be sent of an event of which the verdict is known is spelled out there as well, byte for
byte as `pipeline.engine.seen` does. Here is said what may be remembered.
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

_MAX_EVENT_BYTES: Final = 65_536
"""Of larger events nothing is remembered: their size limits what rules may take for them."""

_MAX_SIGHTINGS: Final = 16
"""Of events with more term tuples, or that more rules match, nothing is remembered: such a verdict
weighs a lot, and the event's size would limit what each of the rules may take."""

_MAX_TERM_BYTES: Final = 1_024
"""Of events whose terms are longer together nothing is remembered; those that are told apart do not
count."""

_MAX_VERDICTS: Final = 32_768
"""Verdicts that are kept; those not used for longest go first."""

_MAX_OUTCOMES: Final = 1_024
"""Verdicts that say the same share it, as long as there are no more different ones."""

_MAX_TEXTS: Final = 65_536
"""Texts of each field that are kept with what the rules say of them."""
_MAX_TEXT_BYTES: Final = 32 << 20
"""Bytes of all those texts; none has more than 256, since longer ones are not told apart."""

_ROUND: Final = 2 * _MAX_VERDICTS
"""Events after which it is asked whether the memory is of use: more than it takes to fill it."""
_RARE: Final = 16
"""It is of use where at least one of so many events of a round is known."""
_REST: Final = 4 * _ROUND
"""Events that are not looked up where it is of no use, until the next round."""


class Limits(NamedTuple):
    """What bounds the memory, and what is let through.

    Attributes:
        verdicts: how many are kept.
        texts: how many texts are kept of each field that is told apart.
        text_bytes: how many bytes of all those texts.
        event_bytes: larger events are left to the match stage.
        value_bytes: events of which something larger would be sent are left to the match stage.
        term_bytes: events with longer terms are left to it; those told apart do not count.
        future_ms: how far after its arrival an event may be dated.
        round: events after which it is asked whether the memory is of use.
        rare: it is where at least one of so many events of a round is known.
        rest: events that are not looked up where it is not.
    """

    verdicts: int = _MAX_VERDICTS
    texts: int = _MAX_TEXTS
    text_bytes: int = _MAX_TEXT_BYTES
    event_bytes: int = _MAX_EVENT_BYTES
    value_bytes: int = 1 << 20
    term_bytes: int = _MAX_TERM_BYTES
    future_ms: int = 300_000
    round: int = _ROUND
    rare: int = _RARE
    rest: int = _REST


class Known(NamedTuple):
    """What is known of records that follow one another.

    Attributes:
        records: how many match some rule.
        goes_on: whether the one behind them, if there is one, may be known as well.
        matches_nothing: whether it is known to match no rule.
        outcomes: what the match stage would say of them, without what was seen, and of how many.
        sent: what is to be sent of them: key and value of each observation.
        covered: how many more sightings were forwarded lately.
        ages: of the events that are sent, once for each observation: seconds.
    """

    records: int
    goes_on: bool
    matches_nothing: bool
    outcomes: list[tuple[Outcome, int]]
    sent: list[tuple[bytes, bytes]]
    covered: int
    ages: list[float]


class _Rule(NamedTuple):
    """A rule, as `firstseen-native` reads it."""

    history: bytes
    window_ms: int
    opening: bytes
    id_opening: bytes
    apart: Sequence[ApartTerm]


class Verdicts:
    """Remembers verdicts. Not for two threads at once.

    Args:
        ruleset: the rules.
        reader: how events are read for them.
        forwarded: what was forwarded lately.
        limits: what bounds it.
    """

    def __init__(
        self,
        ruleset: RuleSet,
        reader: Reader,
        forwarded: NativeForwardedCache | None = None,
        limits: Limits | None = None,
    ) -> None:
        import firstseen_native  # noqa: PLC0415 - it need not be installed

        self.forwarded = NativeForwardedCache() if forwarded is None else forwarded
        seers = [each for each in ruleset.runnable if each.rule.new_terms is not None]
        self._numbers = {each.rule.rule_id: number for number, each in enumerate(seers)}
        self._native: firstseen_native.Verdicts = firstseen_native.Verdicts(
            reader.projection,
            [(each.of, each.absent, each.native) for each in reader.classes],
            [_rule(each, reader.apart[each.rule.rule_id]) for each in seers],
            self.forwarded.cache,
            usable_time,
            _spelled_id,
            # Nobody can find two events of one digest who does not know the key.
            secrets.token_bytes(blake2b.MAX_KEY_SIZE),
            Limits() if limits is None else limits,
        )
        self._outcomes: dict[Outcome, Outcome] = {}

    def __len__(self) -> int:
        return len(self._native)

    def judge(
        self, records: list[Any], start: int, topic: str, partition: int, read_ms: int
    ) -> Known:
        """Return what is known of records of a partition, up to one of which no match is known.

        Or as far as it takes to have a megabyte to send.

        Args:
            records: the records, as from a batch.
            start: number of the first one.
            topic: their topic.
            partition: their partition.
            read_ms: the moment they were read (epoch milliseconds).
        """
        return Known(*self._native.judge(records, start, topic, partition, read_ms))

    def remember(self, event: bytes | None, outcome: Outcome) -> None:
        """Remember what was said of a record's value, if it holds for all that read alike."""
        if (
            event is None
            or outcome.error is not None
            or outcome.failures
            or outcome.new_terms  # alerts, each with its own event
            or outcome.documents != 1
            or outcome.disposition is Disposition.SKIPPED
            or max(len(outcome.seen), len(outcome.matches)) > _MAX_SIGHTINGS
        ):
            return
        sighted = [
            (self._numbers[seen.match.rule.id], [spelled(term) for term in seen.terms])
            for seen in outcome.seen
        ]
        self._native.remember(event, self._shared(outcome), bool(outcome.matches), sighted)

    def digest(self, event: bytes) -> bytes | None:
        """Return what is the same for events that read alike; None where nothing is remembered."""
        return self._native.digest_of(event)

    def _shared(self, outcome: Outcome) -> Outcome:
        """Return what an outcome says of all events that read alike, as one object for many."""
        # Whether its time was usable is said of that event alone.
        said = msgspec.structs.replace(outcome, seen=(), future_capped=0, untimed=())
        if len(self._outcomes) >= _MAX_OUTCOMES:
            self._outcomes.clear()
        return self._outcomes.setdefault(said, said)


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
