"""The metrics of one worker, built from the catalogue into their own registry.

Only this module imports prometheus_client. The children of labelled metrics are cached: getting one
is a dictionary lookup, which is cheap enough for every record.
"""

from __future__ import annotations

import itertools
import math
import platform
from bisect import bisect_left
from collections.abc import Iterable
from threading import Lock
from typing import Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pipeline import __version__
from pipeline.telemetry import catalogue
from pipeline.telemetry.catalogue import MetricSpec

_M = TypeVar("_M", Counter, Gauge)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""Content type of what `Metrics.render` returns."""


class Family(Generic[_M]):
    """The labelled children of one metric."""

    def __init__(self, metric: _M, spec: MetricSpec) -> None:
        self._metric: _M = metric
        self._children: dict[tuple[str, ...], _M] = {}
        if spec.labels and all(label in spec.known for label in spec.labels):
            for values in itertools.product(*(spec.known[label] for label in spec.labels)):
                self.labels(*values)

    def labels(self, *values: str) -> _M:
        """Return the child with these label values (in the catalogue's order), made if missing."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._metric.labels(*values)
        return child

    def has(self, *values: str) -> bool:
        """Whether a child is exported."""
        return values in self._children

    def remove(self, *values: str) -> None:
        """Stop exporting one child, for example of a revoked partition."""
        if self._children.pop(values, None) is not None:
            self._metric.remove(*values)

    def clear(self) -> None:
        """Stop exporting all children."""
        for values in tuple(self._children):
            self.remove(*values)


class Distribution(Collector):
    """A histogram that takes many observations at once, which is cheaper than one by one."""

    def __init__(self, spec: MetricSpec, registry: CollectorRegistry) -> None:
        self._spec = spec
        self._bounds = (*spec.buckets, math.inf)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        self._lock = Lock()
        registry.register(self)

    def observe(self, amounts: Iterable[float]) -> None:
        """Count observations."""
        with self._lock:
            for amount in amounts:
                self._counts[bisect_left(self._bounds, amount)] += 1
                self._sum += amount

    def describe(self) -> Iterable[Metric]:
        """Return the metric without samples, for the registry."""
        return [HistogramMetricFamily(self._spec.name, self._spec.help)]

    def collect(self) -> Iterable[Metric]:
        """Yield the metric with its present values."""
        with self._lock:
            counts, total = list(itertools.accumulate(self._counts)), self._sum
        bounds = map(floatToGoString, self._bounds)
        buckets = list(zip(bounds, counts, strict=True))
        yield HistogramMetricFamily(self._spec.name, self._spec.help, buckets, total)


class Metrics:
    """All metrics of the catalogue, as typed attributes.

    A metric with labels is a `Family`: ``metrics.alerts.labels(rule_id).inc()``. One without is the
    metric itself: ``metrics.rebalances.inc()``.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # A creation timestamp per counter series would double their number, and nobody reads it.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry() if registry is None else registry
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._add_worker()
        self._add_processing()
        self._add_output()
        self._add_kafka()

    def _add_worker(self) -> None:
        self.build_info = self._gauges(catalogue.BUILD_INFO)
        self.worker_state = self._gauges(catalogue.WORKER_STATE)
        self.ready = self._gauge(catalogue.READY)
        self.loop_heartbeat = self._gauge(catalogue.LOOP_HEARTBEAT)
        self.ruleset_info = self._gauges(catalogue.RULESET_INFO)
        self.rules_loaded = self._gauges(catalogue.RULES_LOADED)
        self.build_info.labels(__version__, platform.python_version()).set(1)

    def _add_processing(self) -> None:
        self.records_consumed = self._counters(catalogue.RECORDS_CONSUMED)
        self.records_lost = self._counters(catalogue.RECORDS_LOST)
        self.records_processed = self._counters(catalogue.RECORDS_PROCESSED)
        self.events_decoded = self._counters(catalogue.EVENTS_DECODED)
        self.event_age = Distribution(catalogue.EVENT_AGE, self.registry)
        self.events_future = self._counter(catalogue.EVENTS_FUTURE)
        self.events_untimed = self._counters(catalogue.EVENTS_UNTIMED)
        self.events_without_tuple = self._counter(catalogue.EVENTS_WITHOUT_TUPLE)
        self.rule_matches = self._counters(catalogue.RULE_MATCHES)
        self.rule_errors = self._counters(catalogue.RULE_ERRORS)
        self.observations = self._counters(catalogue.OBSERVATIONS)
        self.sightings = self._counters(catalogue.SIGHTINGS)
        self.sightings_held = self._counters(catalogue.SIGHTINGS_HELD)
        self.new_terms = self._counters(catalogue.NEW_TERMS)

    def _add_output(self) -> None:
        self.alerts = self._counters(catalogue.ALERTS)
        self.alerts_by_severity = self._counters(catalogue.ALERTS_BY_SEVERITY)
        self.alerts_overflow = self._counters(catalogue.ALERTS_OVERFLOW)
        self.alerts_duplicate = self._counter(catalogue.ALERTS_DUPLICATE)
        self.alert_summaries = self._counter(catalogue.ALERT_SUMMARIES)
        self.alert_latency = self._histogram(catalogue.ALERT_LATENCY)
        self.dead_letters = self._counters(catalogue.DEAD_LETTERS)
        self.errors = self._counters(catalogue.ERRORS)

    def _add_kafka(self) -> None:
        self.consumer_lag = self._gauges(catalogue.CONSUMER_LAG)
        self.open_transaction = self._gauges(catalogue.OPEN_TRANSACTION)
        self.last_record_timestamp = self._gauges(catalogue.LAST_RECORD_TIMESTAMP)
        self.assigned_partitions = self._gauges(catalogue.ASSIGNED_PARTITIONS)
        self.rebalances = self._counter(catalogue.REBALANCES)
        self.rebalance_seconds = self._histogram(catalogue.REBALANCE_SECONDS)
        self.commit_seconds = self._histogram(catalogue.COMMIT_SECONDS)
        self.commits = self._counters(catalogue.COMMITS)
        self.outbox_records = self._gauge(catalogue.OUTBOX_RECORDS)
        self.state_entries = self._gauges(catalogue.STATE_ENTRIES)
        self.state_rule_entries = self._gauges(catalogue.STATE_RULE_ENTRIES)
        self.state_removed = self._counters(catalogue.STATE_REMOVED)
        self.history_records = self._counters(catalogue.HISTORY_RECORDS)
        self.history_held = self._gauges(catalogue.HISTORY_HELD)
        self.backfill_remaining = self._gauges(catalogue.BACKFILL_REMAINING)
        self.backfill_records = self._counters(catalogue.BACKFILL_RECORDS)
        self.changelogs_incomplete = self._counters(catalogue.CHANGELOGS_INCOMPLETE)
        self.state_refused = self._counters(catalogue.STATE_REFUSED)
        self.recovery_remaining = self._gauges(catalogue.RECOVERY_REMAINING)

    def expect_topics(self, topics: tuple[str, ...]) -> None:
        """Export the series of the input topics as 0 before their first record."""
        for topic in topics:
            self.records_consumed.labels(topic)
            self.records_lost.labels(topic)
            self.events_decoded.labels(topic)
            for outcome in catalogue.OUTCOMES:
                self.records_processed.labels(topic, outcome)

    def expect_rules(self, rule_ids: tuple[str, ...]) -> None:
        """Export the series of the rules as 0 before their first match."""
        for rule_id in rule_ids:
            for family in (self.rule_matches, self.new_terms, self.alerts, self.state_refused):
                family.labels(rule_id)

    def set_worker_state(self, state: str) -> None:
        """Set the worker's state: one of `catalogue.WORKER_STATES`.

        Raises:
            ValueError: there is no such state.
        """
        if state not in catalogue.WORKER_STATES:
            raise ValueError(f"no such worker state: {state!r}")
        for other in catalogue.WORKER_STATES:
            self.worker_state.labels(other).set(other == state)

    def set_ruleset(self, digest: str) -> None:
        """Set the digest of the running rules; exactly one series remains."""
        self.ruleset_info.clear()
        self.ruleset_info.labels(digest).set(1)

    def forget_partition(self, topic: str, partition: int) -> None:
        """Stop exporting the series of a partition that another worker reads now."""
        for family in (self.consumer_lag, self.open_transaction, self.last_record_timestamp):
            family.remove(topic, str(partition))

    def render(self) -> bytes:
        """Return all series in the Prometheus text format; the content type is `CONTENT_TYPE`."""
        return generate_latest(self.registry)

    def _counter(self, spec: MetricSpec) -> Counter:
        return Counter(spec.name, spec.help, registry=self.registry)

    def _counters(self, spec: MetricSpec) -> Family[Counter]:
        return Family(Counter(spec.name, spec.help, spec.labels, registry=self.registry), spec)

    def _gauge(self, spec: MetricSpec) -> Gauge:
        return Gauge(spec.name, spec.help, registry=self.registry)

    def _gauges(self, spec: MetricSpec) -> Family[Gauge]:
        return Family(Gauge(spec.name, spec.help, spec.labels, registry=self.registry), spec)

    def _histogram(self, spec: MetricSpec) -> Histogram:
        return Histogram(spec.name, spec.help, registry=self.registry, buckets=spec.buckets)
