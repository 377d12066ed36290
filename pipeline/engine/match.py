"""Match: turns one record into the observations and alerts that its events cause.

It is stateless, synchronous and total: whatever the bytes are, the result is one `Outcome`. This
stage sees the full flood of events, so it does the cheap things first. It searches the raw bytes
for the texts that the rules cannot match without, decodes only records that contain one, and judges
them only by the rules whose index patterns include the event. Records that match nothing share two
constant outcomes.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Final

import msgspec

from pipeline.engine.alert import EventContext, build_match_alert
from pipeline.engine.decode import DecodeLimits, Document, decode
from pipeline.engine.identity import portable_terms, term_key
from pipeline.engine.index import index_of
from pipeline.engine.prefilter import Prefilter
from pipeline.engine.rule_index import RuleIndex
from pipeline.engine.sighting import RuleMatch, Sighting
from pipeline.engine.wire import NewTerm, Observation, RuleRef
from pipeline.errors import RecordError, TimestampError, TooCostlyError
from pipeline.kql import Budget, Memo
from pipeline.record import Record
from pipeline.rules.compiled import CompiledRule
from pipeline.rules.model import Rule, RuleType
from pipeline.rules.ruleset import RuleSet
from pipeline.rules.timestamp import MAX_MS, EffectiveTime, effective_time, is_usable
from pipeline.types import Term

MAX_TUPLES: Final = 10_000
"""The maximum number of term tuples taken from one event. The rules that match the event share them
evenly, and each may take at least one. What exceeds a rule's share is a `RuleFailure`."""

MAX_COPIED_BYTES: Final = 64 << 20
"""The maximum size of all observations of one event together. Each observation carries its event,
so this is 64 tuples for an event of 1 MiB, and `MAX_TUPLES` for one of 6 KiB. Without this limit,
one record full of arrays could write gigabytes."""

BUDGET_NS: Final = 40_000_000
"""What the rules may spend on one record, in estimated nanoseconds (`pipeline.kql.memo`), before it
becomes a dead letter. Rules of ordinary size take a thousandth of this for the largest record."""

_RESERVE_NS: Final = 100_000
"""Once the budget is used up, each further rule may spend this much. So a rule that needs no more
than that still judges the record, however much the others would take."""
_RESERVES: Final = 100
"""The number of rules that get a reserve."""

_MATCH_NS: Final = 4_000
"""The estimated cost of handling a match."""
_OBSERVATION_NS: Final = 3_000
"""The estimated cost of making an observation of a match."""
_ALERT_NS: Final = 100_000
"""The estimated cost of making an alert of a `query` rule."""
_COPIED_NS: Final = 0.1
"""The estimated cost of each byte of the event that an observation or alert carries."""

_CONTEXT: Final = object()
"""The key, in an event's memo, of what the alerts of the event share."""

RECORD_TIME: Final = "record"
"""The ``event_time_source`` of an alert whose time had to be taken from the record."""


class Disposition(StrEnum):
    """What became of a record."""

    SKIPPED = "skipped"
    NO_MATCH = "no_match"
    MATCHED = "matched"
    DEAD_LETTER = "dead_letter"

    # Enum's own __hash__ is a Python function, and these are counted for each record.
    __hash__ = str.__hash__


class RuleFailure(msgspec.Struct, frozen=True, gc=False):
    """A rule that could not fully judge an event; the other rules were not affected.

    Attributes:
        rule_id: the rule.
        code: ``evaluation`` (it raised an exception) or ``too_many_tuples``.
        message: what happened, without content of the event, because it is logged.
        index: the number of the document in the record.
    """

    rule_id: str
    code: str
    message: str
    index: int


class Outcome(msgspec.Struct, frozen=True):
    """The result of processing one record.

    Attributes:
        disposition: what became of it. Even a dead letter may have sightings: those of its other
            documents, or of other rules.
        sightings: those of `new_terms` rules, to be judged by first seen.
        new_terms: alerts of `query` rules, which go straight to the quota.
        matches: (rule id, document number) for each match.
        error: why it is a dead letter; the first reason if there are several.
        failures: rules that failed on one of its events.
        documents: the number of events in it; 1 for a record that was skipped unread.
        future_capped: the number of matches whose event time was too far in the future and was
            capped.
        untimed: for each match that had to use the record's time because the event has no usable
            time of its own, the reason (see `pipeline.errors.TimestampError`).
        without_tuple: the number of matches of `new_terms` rules whose event lacks a value in one
            of the fields.
    """

    disposition: Disposition
    sightings: tuple[Sighting, ...] = ()
    new_terms: tuple[NewTerm, ...] = ()
    matches: tuple[tuple[str, int], ...] = ()
    error: RecordError | None = None
    failures: tuple[RuleFailure, ...] = ()
    documents: int = 1
    future_capped: int = 0
    untimed: tuple[str, ...] = ()
    without_tuple: int = 0

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The observations of all sightings."""
        return tuple(each.observation() for each in self.sightings)


SKIPPED: Final = Outcome(Disposition.SKIPPED)
NO_MATCH: Final = Outcome(Disposition.NO_MATCH)


@dataclass(frozen=True, slots=True)
class _Runnable:
    """A rule, with values that are the same for all its matches."""

    compiled: CompiledRule
    ref: RuleRef
    window_ms: int

    @classmethod
    def of(cls, compiled: CompiledRule) -> _Runnable:
        new_terms = compiled.rule.new_terms
        return cls(compiled, RuleRef.of(compiled.rule), new_terms.history_ms if new_terms else 0)


@dataclass(slots=True)
class _Findings:
    """The results that accumulate while a record's events are judged."""

    sightings: list[Sighting] = field(default_factory=list)
    new_terms: list[NewTerm] = field(default_factory=list)
    matches: list[tuple[str, int]] = field(default_factory=list)
    failures: list[RuleFailure] = field(default_factory=list)
    error: RecordError | None = None
    future_capped: int = 0
    untimed: list[str] = field(default_factory=list)
    without_tuple: int = 0
    budget: Budget = field(default_factory=partial(Budget, BUDGET_NS))
    exhausted: bool = False
    reserves: int = _RESERVES

    def outcome(self, documents: int) -> Outcome:
        if self.error is not None:
            disposition = Disposition.DEAD_LETTER
        else:
            disposition = Disposition.MATCHED if self.matches else Disposition.NO_MATCH
        return Outcome(
            disposition=disposition,
            sightings=tuple(self.sightings),
            new_terms=tuple(self.new_terms),
            matches=tuple(self.matches),
            error=self.error,
            failures=tuple(self.failures),
            documents=documents,
            future_capped=self.future_capped,
            untimed=tuple(self.untimed),
            without_tuple=self.without_tuple,
        )

    @property
    def nothing(self) -> bool:
        return not (self.matches or self.failures or self.error)

    def allow_reserve(self) -> None:
        """If the budget is used up, let the next rule spend its reserve."""
        if self.exhausted and self.budget.left < _RESERVE_NS:
            self.budget.left = _RESERVE_NS if self.reserves else 0
            self.reserves -= bool(self.reserves)

    def failed(self, rule_id: str, index: int, error: Exception) -> None:
        """Record an error of one rule on one document; the other rules go on."""
        match error:
            case TooCostlyError():
                self.exhausted = True
                message = f"to judge the event by the rule {rule_id} would take too long"
                self.error = self.error or TooCostlyError("too_costly", message)
            case RecordError():
                self.error = self.error or error
            case _:
                # A matcher is total and cannot raise anything else. If one does so all the same, it
                # must not stop the worker or the other rules, and it must be noticed: the driver
                # counts and logs each failure.
                self.failures.append(
                    RuleFailure(rule_id, "evaluation", _name_and_place(error), index)
                )


def _name_and_place(error: Exception) -> str:
    """Name an error and where it was raised; its own message may quote the event."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    code = frame.f_code
    return f"{type(error).__name__} in {code.co_name}, {Path(code.co_filename).name}:{line}"


class _MatchedEvent(msgspec.Struct):
    """An event that rules match.

    Attributes:
        document: the event.
        record: the record it is from.
        memo: what has been computed about it.
        share: the number of rules that match it and have to share its tuples.
    """

    document: Document
    record: Record
    memo: Memo
    share: int


class MatchStage:
    """Judges records by a rule set.

    Args:
        ruleset: the rules.
        limits: the limits of the decoder.
        max_future_ms: how far after its arrival an event may be dated. A later time is capped at
            that limit, so that one wrong clock cannot make a term known for years.
        prefilter: the search on raw bytes; None to decode every record.
        match_index: whether the rules' index patterns are applied.
        include_event: whether alerts of `query` rules carry the original event.
    """

    def __init__(
        self,
        ruleset: RuleSet,
        *,
        limits: DecodeLimits | None = None,
        max_future_ms: int = 300_000,
        prefilter: Prefilter | None = None,
        match_index: bool = True,
        include_event: bool = True,
    ) -> None:
        self._limits = limits or DecodeLimits()
        self._max_future_ms = max_future_ms
        self._prefilter = prefilter if prefilter is not None and prefilter.enabled else None
        self._match_index = match_index
        self._include_event = include_event
        self._digest = ruleset.digest
        self._rules = RuleIndex((_Runnable.of(each), each) for each in ruleset.runnable)
        # All rules that were compiled together share one.
        for patterns in {each.shared_patterns for each in ruleset.runnable}:
            patterns.prepare()

    def process(self, record: Record) -> Outcome:
        """Return the outcome for a record. Never raises."""
        value = record.value
        # A value that contains none of the literals is not read at all, even if it is empty or not
        # JSON. Nothing in it can match, and a whole batch of such values is skipped without parsing
        # its records.
        if self._prefilter is not None and not self._prefilter.may_match(value or b""):
            return SKIPPED
        decoded = decode(value, self._limits)
        findings = _Findings(error=decoded.error)
        for document in decoded.documents:
            if findings.exhausted and not findings.reserves:
                break  # the whole record becomes a dead letter, so the rest is not lost
            self._judge(document, record, findings)
        if findings.nothing and len(decoded.documents) == 1:
            return NO_MATCH
        return findings.outcome(len(decoded.documents))

    def _judge(self, document: Document, record: Record, findings: _Findings) -> None:
        """Judge one event by each rule that may match it."""
        memo = Memo(findings.budget)
        matched = []
        for rule in self._concerned(document, memo):
            if findings.exhausted:
                findings.allow_reserve()
            try:
                if rule.compiled.matcher(document.event, memo):
                    findings.matches.append((rule.ref.id, document.index))
                    matched.append(rule)
            except Exception as error:  # noqa: BLE001  (one rule must not affect the others)
                findings.failed(rule.ref.id, document.index, error)
        if not matched:
            return
        event = _MatchedEvent(document, record, memo, len(matched))
        for rule in matched:
            if findings.exhausted:
                findings.allow_reserve()
            try:
                self._add_match(rule, event, findings)
            except Exception as error:  # noqa: BLE001  (as above)
                findings.failed(rule.ref.id, document.index, error)

    def _concerned(self, document: Document, memo: Memo) -> Sequence[_Runnable]:
        """Return the rules that may match an event, given its index and a few of its values."""
        index = index_of(document.event) if self._match_index else None
        return self._rules.candidates(document.event, index, memo)

    def _add_match(self, rule: _Runnable, event: _MatchedEvent, findings: _Findings) -> None:
        """Add what a match causes: sightings, or an alert of a `query` rule.

        Raises:
            TimestampError: neither the event nor its record has a usable time.
            TooCostlyError: the result would take too long to make.
        """
        findings.budget.spend(_MATCH_NS)
        compiled = rule.compiled
        time_ms, time_source = self._time(compiled.rule, event, findings)
        latest_ms = min(event.record.arrival_ms + self._max_future_ms, MAX_MS)
        capped = time_ms > latest_ms
        findings.future_capped += capped
        time_ms = min(time_ms, latest_ms)
        match = RuleMatch(
            rule=rule.ref,
            history=compiled.history_id,
            window_ms=rule.window_ms,
            document=event.document,
            record=event.record,
            time_ms=time_ms,
            time_source=time_source,
            capped=capped,
        )
        if compiled.rule.type is RuleType.QUERY:
            # The alert contains the event twice: as a text, and in parts.
            findings.budget.spend(_ALERT_NS + 2 * _COPIED_NS * len(event.document.raw))
            findings.new_terms.append(self._alert(compiled.rule, match.observation(()), event))
            return
        values = compiled.values(event.document.event, event.memo)
        self._add_sightings(match, values, event, findings)

    def _time(self, rule: Rule, event: _MatchedEvent, findings: _Findings) -> EffectiveTime:
        """Return an event's effective time: its own, otherwise its record's.

        A sighting with an approximate date is better than none: a shipper that writes dates in its
        own way must not blind a rule. The record's time is its timestamp, even if that is only the
        producer's claim, otherwise the moment it was read.

        Raises:
            TimestampError: neither is usable.
        """
        try:
            return effective_time(
                event.document.event,
                rule.timestamp_override,
                fallback=not rule.timestamp_override_fallback_disabled,
                memo=event.memo,
            )
        except TimestampError as error:
            for time_ms in (event.record.timestamp_ms, event.record.read_ms):
                if is_usable(time_ms):
                    findings.untimed.append(error.reason)
                    return EffectiveTime(time_ms, RECORD_TIME)
            raise

    def _add_sightings(
        self,
        match: RuleMatch,
        values: Sequence[tuple[Term, ...]],
        event: _MatchedEvent,
        findings: _Findings,
    ) -> None:
        """Add a sighting for each tuple of a match: the product of the values of its fields."""
        if not values:
            findings.without_tuple += 1
            return
        size = len(event.document.raw)
        limit = max(1, min(MAX_TUPLES, MAX_COPIED_BYTES // size) // event.share)
        cost = _OBSERVATION_NS + _COPIED_NS * size
        for terms in map(portable_terms, islice(product(*values), limit)):
            findings.budget.spend(cost)
            findings.sightings.append(Sighting(term_key(match.history, terms), terms, match))
        if math.prod(map(len, values)) > limit:
            message = (
                f"the event has {size} bytes and more than {limit} term tuples: "
                "the rest is not judged"
            )
            findings.failures.append(
                RuleFailure(match.rule.id, "too_many_tuples", message, event.document.index)
            )

    def _alert(self, rule: Rule, observation: Observation, event: _MatchedEvent) -> NewTerm:
        """Return the alert of a `query` rule, dated by its record so that a replay agrees."""
        recorded_ms = observation.source.timestamp_ms
        context = event.memo.get(_CONTEXT)
        if context is None:
            context = event.memo[_CONTEXT] = EventContext(event.document.raw)
        return build_match_alert(
            observation,
            rule,
            context,
            created_ms=recorded_ms if is_usable(recorded_ms) else observation.time_ms,
            ruleset_digest=self._digest,
            include_event=self._include_event,
        )
