"""What a rule saw, made by hand."""

from __future__ import annotations

from pipeline.engine.decode import Document
from pipeline.engine.sighting import RuleMatch, Sighting
from pipeline.engine.wire import RuleRef
from pipeline.record import Position, Record
from tests.rules import new_terms_rule

_RULE = RuleRef.of(new_terms_rule())


def seen(
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
        rule=_RULE,
        history="00" * 8,
        window_ms=window_ms,
        document=Document({}, b"{}", index),
        record=Record(Position(topic, partition, offset), None, b"{}", (), 0, read_ms, read_ms),
        time_ms=time_ms,
        time_source="@timestamp",
        capped=False,
    )
    return Sighting(key, ("t",), match)
