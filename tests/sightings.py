"""What a rule saw, made by hand: as the match stage has it, and as the observation it sends."""

from __future__ import annotations

import msgspec

from pipeline.engine.decode import Document
from pipeline.engine.sighting import RuleMatch, Sighting
from pipeline.engine.wire import Observation, RuleRef, Source
from pipeline.record import Position, Record
from tests.rules import new_terms_rule

RULE = RuleRef.of(new_terms_rule())
HOUR = 3_600_000
HISTORY = "ab" * 8
OTHER_HISTORY = "cd" * 8


def sighting(
    key: bytes = b"a",
    time_ms: int = 0,
    read_ms: int = 0,
    *,
    place: tuple[str, int, int, int] = ("events", 0, 1_000, 0),
    window_ms: int = 1_000_000,
) -> Sighting:
    """Return a sighting; its place is topic, partition, offset and number of the document."""
    topic, partition, offset, index = place
    match = RuleMatch(
        rule=RULE,
        history="00" * 8,
        window_ms=window_ms,
        document=Document({}, b"{}", index),
        record=Record(Position(topic, partition, offset), None, b"{}", (), 0, read_ms, read_ms),
        time_ms=time_ms,
        time_source="@timestamp",
        capped=False,
    )
    return Sighting(key, ("t",), match)


def observation(
    term: str = "a",
    time_ms: int = 0,
    *,
    history: str = HISTORY,
    window_ms: int = HOUR,
    rule_id: str = RULE.id,
) -> Observation:
    """Return the observation of a term; a history is that of the rule and its query."""
    return Observation(
        rule=msgspec.structs.replace(RULE, id=rule_id),
        history=history,
        window_ms=window_ms,
        terms=(term,),
        time_ms=time_ms,
        event_id="event",
        alert_id="alert",
        source=Source("events", 0, 0, 0),
        event=msgspec.Raw(b"{}"),
    )
