"""Counts gathered for the metrics, because each access to a labelled counter costs microseconds.

Each object belongs to one thread, which exports it after a number of records: a bundle or a fetch.
"""

from __future__ import annotations

from collections import Counter

from pipeline.engine.match import Disposition, Outcome
from pipeline.rules.timestamp import is_usable
from pipeline.telemetry.metrics import Metrics


class RecordCounts:
    """Finished records of the inputs, counted by their outcome."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._ended: Counter[tuple[str, Disposition]] = Counter()
        self._latest: dict[tuple[str, int], int] = {}

    def ended(self, topic: str, disposition: Disposition, records: int = 1) -> None:
        """Count records with this outcome."""
        self._ended[topic, disposition] += records

    def read_until(self, topic: str, partition: int, timestamp_ms: int) -> None:
        """Note the timestamp of the latest record (-1 if it has none)."""
        if is_usable(timestamp_ms):
            self._latest[topic, partition] = timestamp_ms

    def export(self) -> None:
        """Add what was counted since the last export to the metrics."""
        metrics = self._metrics
        for (topic, disposition), records in self._ended.items():
            metrics.records_consumed.labels(topic).inc(records)
            metrics.records_processed.labels(topic, disposition).inc(records)
        self._ended.clear()
        for (topic, partition), timestamp_ms in self._latest.items():
            stamp = metrics.last_record_timestamp.labels(topic, str(partition))
            stamp.set(timestamp_ms / 1000)
        self._latest.clear()


class MatchCounts:
    """What the match stage found in records."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._documents: Counter[str] = Counter()
        self._matches: Counter[str] = Counter()
        self.observations: Counter[str] = Counter()
        """Observations by result."""
        self.ages: list[float] = []
        """Ages in seconds of the events whose sightings are forwarded."""

    def add(self, topic: str, outcome: Outcome, records: int = 1) -> None:
        """Count what was found in a record, or in several records with the same outcome."""
        if outcome.disposition is not Disposition.SKIPPED:
            self._documents[topic] += outcome.documents * records
        for rule_id, _ in outcome.matches:
            self._matches[rule_id] += records
        for failure in outcome.failures:
            self._metrics.rule_errors.labels(failure.rule_id, failure.code).inc()
        if outcome.future_capped:
            self._metrics.events_future.inc(outcome.future_capped)
        for reason in outcome.untimed:
            self._metrics.events_untimed.labels(reason).inc()
        if outcome.without_tuple:
            self._metrics.events_without_tuple.inc(outcome.without_tuple * records)

    def export(self) -> None:
        """Add what was counted since the last export to the metrics."""
        metrics = self._metrics
        for topic, documents in self._documents.items():
            metrics.events_decoded.labels(topic).inc(documents)
        for rule_id, matches in self._matches.items():
            metrics.rule_matches.labels(rule_id).inc(matches)
        for result, observations in self.observations.items():
            metrics.observations.labels(result).inc(observations)
        metrics.event_age.observe(self.ages)
        for counts in (self._documents, self._matches, self.observations, self.ages):
            counts.clear()
