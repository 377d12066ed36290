"""What travels between the stages: the values of firstseen's own topics, as JSON.

* ``firstseen-observations`` holds `Observation`, as well as `Learn`, `Forget`, `Hold` and
  `Release`, with which the history commands change the state at a fixed place in the order of
  sightings.
* ``firstseen-new-terms`` holds `NewTerm` and `CloseWindow`.

The original event and the finished alert are embedded as they are (`msgspec.Raw`), so that a stage
that needs only the envelope does not parse them again.

An envelope contains everything that a later stage needs to decide: during a rolling deployment, the
worker that reads it may not have the rule, or may have another version of it. Fields may be added
with a default, and unknown fields are ignored, so that workers of two adjacent versions can read
each other's envelopes.

Whoever may write to these topics can write anything, and `firstseen history import` sends whatever
a file says. So numbers are checked when they are read: a number that no row can hold would stop
every worker that comes to it.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from pipeline.engine.identity import HISTORY_BYTES, KEY_BYTES, term_key
from pipeline.errors import DecodeError
from pipeline.rules.model import Rule
from pipeline.rules.timestamp import MAX_MS, MIN_MS
from pipeline.types import Term

Moment: TypeAlias = Annotated[int, msgspec.Meta(ge=MIN_MS, le=MAX_MS)]
"""Epoch milliseconds in the years 1 to 9999."""
MAX_COUNT: Final = 2**62
"""Rows are msgpack, whose integers have 64 bits; a sum of two such numbers still fits."""
Length: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
"""Milliseconds."""
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
RecordTimestamp: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A record's timestamp: whatever its producer wrote there."""


class Source(msgspec.Struct, frozen=True):
    """Where an event was read from.

    Attributes:
        topic: the topic of the record (in a replay, the name of the file).
        partition: its partition.
        offset: its offset (in a replay, the number of the line over all files, from 0).
        timestamp_ms: the record's own timestamp, epoch milliseconds; negative if it has none.
        index: the number of the document inside the record, from 0.
    """

    topic: str
    partition: Count
    offset: Count
    timestamp_ms: RecordTimestamp
    index: Count = 0


class RuleRef(msgspec.Struct, frozen=True):
    """What deciding and alerting need to know of a rule, without the rule itself."""

    id: str
    name: str
    version: Count
    severity: str
    risk_score: Count
    max_signals: Count
    interval_ms: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
    fields: tuple[str, ...] = ()
    """The new-terms fields, in order; empty for a `query` rule."""

    @classmethod
    def of(cls, rule: Rule) -> RuleRef:
        """Return the reference to a rule."""
        return cls(
            id=rule.rule_id,
            name=rule.name,
            version=rule.version,
            severity=rule.severity.value,
            risk_score=rule.risk_score,
            max_signals=rule.max_signals,
            interval_ms=rule.interval_ms,
            fields=rule.new_terms.fields if rule.new_terms else (),
        )


class Observation(msgspec.Struct, frozen=True):
    """One sighting of one term tuple by one rule.

    Attributes:
        rule: the rule.
        history: the id of the rule's history (16 hexadecimal digits), which stands for rule and
            query.
        window_ms: the length of the history.
        terms: the tuple, one term for each new-terms field.
        time_ms: the effective time of the event.
        event_id: the identity of the event (see `pipeline.engine.identity.event_identity`).
        alert_id: the id of the alert, should the tuple be new.
        source: where the event was read from.
        event: the event's JSON text.
        capped: whether the event's own time was too far in the future; `time_ms` is the limit then.
        time_source: the field that the time is from, or ``record``; empty if written by a version
            that did not say.
    """

    rule: RuleRef
    history: str
    window_ms: Length
    terms: tuple[Term, ...]
    time_ms: Moment
    event_id: str
    alert_id: str
    source: Source
    event: msgspec.Raw
    capped: bool = False
    time_source: str = ""

    def key(self) -> bytes:
        """Return the Kafka key of this observation, which is also the key of its row."""
        return term_key(self.history, self.terms)


class Learn(msgspec.Struct, frozen=True, tag="learn"):
    """What is known of a term tuple from elsewhere: it counts as seen, without an alert.

    Attributes:
        rule_id: the rule.
        history: the id of the history it belongs to.
        window_ms: the length of the history.
        terms: the tuple.
        first_ms: the earliest effective time at which it was seen.
        last_ms: the latest effective time at which it was seen.
        count: the number of sightings.
        row: the key of its row in hexadecimal digits, if a term is truncated, so that the key
            cannot be computed from the terms.
    """

    rule_id: str
    history: str
    window_ms: Length
    terms: tuple[Term, ...]
    first_ms: Moment
    last_ms: Moment
    count: Count = 1
    row: str = ""

    def key(self) -> bytes:
        """Return the Kafka key, which is also the key of the row."""
        return bytes.fromhex(self.row) if self.row else term_key(self.history, self.terms)


class Forget(msgspec.Struct, frozen=True, tag="forget"):
    """A request to treat a term tuple, or a whole history, as never seen from here on.

    Attributes:
        rule_id: the rule.
        history: the id of the history.
        row: the key of the tuple's row, in hexadecimal digits; empty for the whole history, in
            which case the request goes to every partition.
    """

    rule_id: str
    history: str
    row: str = ""


class Hold(msgspec.Struct, frozen=True, tag="hold"):
    """A request to ignore a history's sightings from here on: it will learn from the retained log.

    It goes to every partition. See `pipeline.engine.held`.

    Attributes:
        rule_id: the rule.
        history: the id of the history.
    """

    rule_id: str
    history: str


class Release(msgspec.Struct, frozen=True, tag="release"):
    """A request to judge a held history's sightings again; goes to every partition, like `Hold`."""

    rule_id: str
    history: str


class NewTerm(msgspec.Struct, frozen=True, tag="new_term"):
    """A finished alert on its way to the quota; its Kafka key is the rule id.

    Attributes:
        alert_id: the id of the alert.
        rule: the rule.
        terms: the new tuple; empty for a match of a `query` rule.
        time_ms: the effective time of the event.
        source_timestamp_ms: the source record's timestamp, to measure the alert's latency.
        alert: the alert document's JSON text.
        history: the id of the history in which the tuple is new; empty for a match of a `query`
            rule.
        clock_ms: the event clock at the time of the verdict, see `pipeline.engine.event_clock`; 0
            for a match of a `query` rule, or if written by a version that did not say.
    """

    alert_id: str
    rule: RuleRef
    terms: tuple[Term, ...]
    time_ms: Moment
    source_timestamp_ms: RecordTimestamp
    alert: msgspec.Raw
    history: str = ""
    clock_ms: Moment = 0


class CloseWindow(msgspec.Struct, frozen=True, tag="close_window"):
    """A tick: the rule's quota window with this start may need its summary.

    The window has ended, or is too far ahead (see `pipeline.engine.quota`).
    """

    rule: RuleRef
    window_start_ms: Moment


Change: TypeAlias = Learn | Forget | Hold | Release
"""What the history commands send."""
Envelope: TypeAlias = Observation | Change | NewTerm | CloseWindow

_encoder = msgspec.json.Encoder()
_observations = msgspec.json.Decoder(Observation)
_changes: msgspec.json.Decoder[Change] = msgspec.json.Decoder(Change)
_CHANGE = b'{"type":'
"""How an envelope with a tag begins, as `encode` writes it; an observation has no tag."""
_candidates: msgspec.json.Decoder[NewTerm | CloseWindow] = msgspec.json.Decoder(
    NewTerm | CloseWindow
)


def encode(envelope: Envelope) -> bytes:
    """Return the JSON text of an envelope."""
    return _encoder.encode(envelope)


def observation_opening(rule: RuleRef, history: str, window_ms: int) -> bytes:
    """Return how the JSON text of each observation by a rule begins, up to its terms."""
    common = {"rule": rule, "history": history, "window_ms": window_ms}
    return _encoder.encode(common)[:-1] + b',"terms":'


def encode_term(term: Term) -> bytes:
    """Return the JSON text of a term, as in an envelope."""
    return _encoder.encode(term)


def decode_observation_or_change(value: bytes) -> Observation | Change:
    """Read a value of the observations topic.

    Raises:
        DecodeError: with reason ``invalid_envelope``.
    """
    envelope: Observation | Change
    try:
        change = value.startswith(_CHANGE)
        envelope = _changes.decode(value) if change else _observations.decode(value)
        usable = len(bytes.fromhex(envelope.history)) == HISTORY_BYTES and _fits(envelope)
    except (ValueError, RecursionError) as error:  # msgspec's, and ids that are not hexadecimal
        raise DecodeError("invalid_envelope", f"not an observation: {error}") from error
    if not usable:
        raise DecodeError("invalid_envelope", f"not a history id: {envelope.history[:200]!r}")
    if isinstance(envelope, Observation | Learn):
        check_terms(envelope.terms)
    return envelope


def _fits(envelope: Observation | Change) -> bool:
    """Whether the row that a change names, if any, belongs to its history."""
    row = envelope.row if isinstance(envelope, Learn | Forget) else ""
    return not row or (
        len(bytes.fromhex(row)) == KEY_BYTES and row.lower().startswith(envelope.history.lower())
    )


def decode_candidate(value: bytes) -> NewTerm | CloseWindow:
    """Read a value of the new-terms topic.

    Raises:
        DecodeError: with reason ``invalid_envelope``.
    """
    try:
        candidate = _candidates.decode(value)
        if isinstance(candidate, NewTerm):
            check_terms(candidate.terms)
            _check_alert(candidate.alert)
            value.decode()  # embedded JSON was not checked to be UTF-8
    except (ValueError, RecursionError) as error:
        raise DecodeError("invalid_envelope", f"not a new term: {error}") from error
    return candidate


def _check_alert(alert: msgspec.Raw) -> None:
    if not is_object(alert):
        raise DecodeError("invalid_envelope", "not a new term: its alert is no JSON object")


def is_object(text: msgspec.Raw) -> bool:
    """Whether a JSON text is an object."""
    return bytes(memoryview(text)[:1]) == b"{"


def check_terms(terms: tuple[Term, ...]) -> None:
    """Check that a row can hold a tuple.

    Raises:
        DecodeError: with reason ``invalid_envelope``: an integer in it has more than 64 bits.
    """
    for term in terms:
        if type(term) is int and not -(2**63) <= term < 2**64:
            raise DecodeError("invalid_envelope", "a term is a number of more than 64 bits")
