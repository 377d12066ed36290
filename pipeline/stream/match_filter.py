"""The match stage below Faust: drops what no rule can match, keeps the rest with its outcome."""

from __future__ import annotations

from typing import Any

from pipeline.config import Settings
from pipeline.config.match_stage import match_stage
from pipeline.engine.match import Disposition, Outcome
from pipeline.engine.prefilter import Prefilter
from pipeline.engine.timestamp import is_usable
from pipeline.errors import DecodeError
from pipeline.record import Record
from pipeline.rules import RuleSet
from pipeline.stream.records import record_of_consumer
from pipeline.telemetry.metrics import Metrics


class MatchFilter:
    """A `pipeline.stream.transport.RecordFilter` that runs the match stage.

    It works in the consumer's thread. What it keeps goes on with its outcome, so no record is
    decoded twice. What it drops, it counts.
    """

    def __init__(self, settings: Settings, ruleset: RuleSet, metrics: Metrics) -> None:
        self.topics = frozenset(settings.topics.inputs)
        prefilter = Prefilter.from_ruleset(ruleset)
        self.searches = prefilter.enabled
        self.may_match = prefilter.may_match
        self.positions = prefilter.positions
        self._stage = match_stage(settings, ruleset)
        self._metrics = metrics
        self.dropped = 0
        """Records dropped so far, unread or not matching: good ones, all of them."""

    def judge(self, record: Any) -> tuple[Record, Outcome] | None:
        judged = record_of_consumer(record)
        outcome = self._stage.process(judged)
        if outcome.disposition is Disposition.NO_MATCH and not outcome.failures:
            self._count(judged.position.topic, Disposition.NO_MATCH, 1)
            self._metrics.events_decoded.labels(judged.position.topic).inc(outcome.documents)
            self._stamp(judged.position.topic, judged.position.partition, judged.timestamp_ms)
            return None
        return judged, outcome

    def refuse(self, record: Any, reason: str, records: int) -> tuple[Record, Outcome]:
        error = DecodeError("unreadable_batch", f"a batch of {records} records: {reason}"[:500])
        outcome = Outcome(Disposition.DEAD_LETTER, error=error, documents=0, records=records)
        return record_of_consumer(record), outcome

    def passed_over(self, tp: Any, records: int, timestamp_ms: int) -> None:
        self._count(tp.topic, Disposition.SKIPPED, records)
        self._stamp(tp.topic, tp.partition, timestamp_ms)

    def _count(self, topic: str, disposition: Disposition, records: int) -> None:
        self.dropped += records
        self._metrics.records_consumed.labels(topic).inc(records)
        self._metrics.records_processed.labels(topic, disposition).inc(records)

    def _stamp(self, topic: str, partition: int, timestamp_ms: int) -> None:
        if not is_usable(timestamp_ms):
            return
        last = self._metrics.last_record_timestamp.labels(topic, str(partition))
        last.set(timestamp_ms / 1000)
