"""Checks a worker once a second: fails it if it cannot go on, and sets the gauges."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from faust.types import TP

from pipeline.stream.health import Health
from pipeline.stream.open_transactions import OpenTransactions
from pipeline.telemetry.logging import get_logger
from pipeline.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from pipeline.stream.app import App

_SAMPLE_SECONDS = 1.0

log = get_logger(__name__)


class Sampler:
    """Checks a running app, fails it if it cannot go on, and sets the gauges.

    Args:
        app: the app.
        health: judges the app by the samples taken here.
        metrics: the catalogue's metrics.
        inputs: the topics of events.
        on_ready: called once, when partitions are assigned and tables recovered.
    """

    def __init__(
        self,
        app: App,
        health: Health,
        metrics: Metrics,
        inputs: Collection[str],
        *,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._app = app
        self._health = health
        self._metrics = metrics
        self._inputs = inputs
        self._on_ready = on_ready
        self._state = ""
        self._partitions: set[TP] = set()
        self._transactions = OpenTransactions()

    async def run(self) -> None:
        """Check once a second, until cancelled."""
        while True:
            try:
                self._look()
            except Exception as exc:  # noqa: BLE001 - else nobody would look any more
                log.error("could not look at itself", action="look_failed", error=exc)  # noqa: TRY400
            await asyncio.sleep(_SAMPLE_SECONDS)

    def _look(self) -> None:
        self._app.watch()
        if (hang := self._health.hang_error()) is not None:
            self._app.fail(hang)
        self._metrics.loop_heartbeat.set_to_current_time()
        state = self._health.state()
        self._note_state(state)
        self._metrics.set_worker_state(state)
        self._metrics.ready.set(self._health.ready().ok)
        self._metrics.outbox_records.set(len(self._app.outbox))
        self._sample_recovery()
        if state == "running":
            self._notify_ready()
            self._sample_partitions()
        else:
            self._health.reset_progress()

    def _note_state(self, state: str) -> None:
        """Log that the worker joins, recovers its tables or works, each time that changes."""
        if state != self._state:
            self._state = state
            log.info("the worker's state has changed", action="worker_state", state=state)

    def _notify_ready(self) -> None:
        on_ready, self._on_ready = self._on_ready, None
        if on_ready is not None:
            on_ready()

    def _sample_recovery(self) -> None:
        remaining: dict[str, int] = dict.fromkeys(self._app.state_tables, 0)
        if self._app.in_recovery:
            recovery = self._app.tables.recovery
            for tp, records in recovery.active_remaining().items():
                remaining[recovery.tp_to_table[tp].name] += max(0, records)
        for name, records in remaining.items():
            self._metrics.recovery_remaining.labels(name).set(records)

    def _sample_partitions(self) -> None:
        consumer = self._app.consumer
        lags: dict[TP, int] = consumer.lags()
        self._health.observe(sum(lags.values()), consumer.last_commit_at)
        if (stall := self._health.stall_error()) is not None:
            self._app.fail(stall)
        self._note_assigned(set(lags))
        for tp, lag in lags.items():
            self._sample_partition(tp, lag)
        for name, table in self._app.state_tables.items():
            self._metrics.state_entries.labels(name).set(table.data.approximate_size())

    def _note_assigned(self, partitions: set[TP]) -> None:
        lost, self._partitions = self._partitions - partitions, partitions
        for tp in lost:
            self._metrics.forget_partition(tp.topic, tp.partition)
        assigned = Counter(tp.topic for tp in partitions)
        for topic in {tp.topic for tp in lost | partitions}:
            self._metrics.assigned_partitions.labels(topic).set(assigned[topic])

    def _sample_partition(self, tp: TP, lag: int) -> None:
        labels = tp.topic, str(tp.partition)
        self._metrics.consumer_lag.labels(*labels).set(lag)
        waiting = self._transactions.seconds(tp, self._app.consumer.open_transaction(tp))
        self._metrics.open_transaction.labels(*labels).set(waiting)
        latest = self._metrics.last_record_timestamp
        if tp.topic in self._inputs and lag and not latest.has(*labels):
            latest.labels(*labels).set_to_current_time()
