"""What a rule saw in an event: enough to decide whether to send it on, and to do so."""

from __future__ import annotations

from typing import Final

import msgspec

from pipeline.engine.decode import Document
from pipeline.engine.identity import alert_id, event_identity
from pipeline.engine.paths import text_at
from pipeline.engine.wire import Observation, RuleRef, Source
from pipeline.record import Record
from pipeline.types import Term

EVENT_ID: Final = "event.id"
"""The field that identifies an event, if it has one."""


class RuleMatch(msgspec.Struct):
    """An event that a rule matched: what all its observations have in common.

    Attributes:
        rule: the rule.
        history: the id of the rule's history.
        window_ms: the length of the history.
        document: the event.
        record: the record it is from.
        time_ms: its effective time.
        time_source: the field that the time is from, or ``record``.
        capped: whether its own time was too far in the future.
    """

    rule: RuleRef
    history: str
    window_ms: int
    document: Document
    record: Record
    time_ms: int
    time_source: str
    capped: bool
    _identity: str = ""

    @property
    def identity(self) -> str:
        """What identifies the event, see `event_identity`."""
        if not self._identity:
            event_id = text_at(self.document.event, EVENT_ID)
            position, index = self.record.position, self.document.index
            self._identity = event_identity(event_id, position, index)
        return self._identity

    def observation(self, terms: tuple[Term, ...]) -> Observation:
        """Return the observation of a tuple."""
        position = self.record.position
        return Observation(
            rule=self.rule,
            history=self.history,
            window_ms=self.window_ms,
            terms=terms,
            time_ms=self.time_ms,
            event_id=self.identity,
            alert_id=alert_id(self.rule.id, self.rule.version, terms, self.identity),
            source=Source(
                topic=position.topic,
                partition=position.partition,
                offset=position.offset,
                timestamp_ms=self.record.timestamp_ms,
                index=self.document.index,
            ),
            event=msgspec.Raw(self.document.raw),
            capped=self.capped,
            time_source=self.time_source,
        )


class Sighting(msgspec.Struct, frozen=True):
    """A term tuple that a rule saw in an event.

    Most of what a broad rule sees was forwarded a moment ago, so the observation is not built until
    it is needed.

    Attributes:
        key: the key of its observation.
        terms: the tuple.
        match: the event, and the rule that matched it.
    """

    key: bytes
    terms: tuple[Term, ...]
    match: RuleMatch

    def observation(self) -> Observation:
        """Return the observation for first seen to judge."""
        return self.match.observation(self.terms)
