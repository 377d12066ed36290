"""Judges records of the log by one rule, as a worker does, but outside a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from pipeline.assembly.match_stage import match_stage
from pipeline.clock import now_ms
from pipeline.config import Settings
from pipeline.engine.prefilter import Prefilter
from pipeline.engine.sighting import Sighting
from pipeline.record import Position, Record, arrival_of
from pipeline.rules import CompiledRule, RuleSet


class LogJudge:
    """The match stage of one rule, for confluent-kafka messages.

    Args:
        settings: how records are judged.
        compiled: the rule.

    Attributes:
        skipped: records that could not be used, by reason. They are only counted here; the worker
            that reads them writes the dead letters.
    """

    def __init__(self, settings: Settings, compiled: CompiledRule) -> None:
        ruleset = RuleSet([compiled])
        self._prefilter = Prefilter.from_ruleset(ruleset)
        self._stage = match_stage(settings, ruleset)
        self.skipped: Counter[str] = Counter()

    def sightings(self, messages: Iterable[Message]) -> Iterable[Sighting]:
        """Yield the sightings in these records, in order."""
        may_match = self._prefilter.may_match
        for message in messages:
            # Checked here and not by the stage, because nearly all records fail this check.
            if may_match(message.value() or b""):
                outcome = self._stage.process(_record(message))
                if outcome.error is not None:
                    self.skipped[outcome.error.reason] += 1
                for failure in outcome.failures:
                    self.skipped[failure.code] += 1
                yield from outcome.sightings


def _record(message: Message) -> Record:
    kind, timestamp_ms = message.timestamp()
    append_time = kind == TIMESTAMP_LOG_APPEND_TIME
    read_ms = now_ms()
    return Record(
        position=Position(message.topic(), message.partition(), message.offset()),
        key=message.key(),
        value=message.value(),
        headers=(),
        timestamp_ms=timestamp_ms,
        arrival_ms=arrival_of(timestamp_ms, read_ms, append_time=append_time),
        read_ms=read_ms,
    )
