"""The sweep over the assigned partitions of the first seen table.

It runs on the worker's own event loop, between records, in slices of a few milliseconds per
tick, so that the stream never waits for it. `pipeline.engine.sweep` decides what it does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from time import perf_counter

from faust.types import TP

from pipeline.clock import now_ms
from pipeline.engine.sweep import Removal
from pipeline.stream.context import Context
from pipeline.stream.partitions import Partition, Partitions
from pipeline.telemetry.logging import get_logger

TICK_SECONDS = 0.25
_SLICE_SECONDS = 0.004
_SLICE_ROWS = 4_000
_SLICE_REMOVALS = 100
_OTHER_RULES = "other"

log = get_logger(__name__)


class Sweeper:
    """Sweeps the partitions of the first seen table that this worker owns, in turns."""

    def __init__(self, context: Context, partitions: Partitions) -> None:
        self._app = context.app
        self._topic = context.settings.topics.observations
        self._limit = context.settings.state.max_entries_per_rule
        self._metrics = context.metrics
        self._rules = frozenset(each.rule.rule_id for each in context.ruleset.runnable)
        self._histories = {
            bytes.fromhex(each.history_id): each.rule.rule_id
            for each in context.ruleset.runnable
            if each.terms
        }
        self._open = partitions.by_number
        self._leaving: dict[bytes, asyncio.Future[None]] = {}
        self._reported_full: set[str] = set()
        self._turn = 0

    @property
    def has_no_removals(self) -> bool:
        """Whether no removal is in flight."""
        return not self._leaving

    async def wait_for_removal(self, key: bytes) -> None:
        """Wait until the removal of a row, if one is in flight, is acknowledged."""
        while (leaving := self._leaving.get(key)) is not None:
            await leaving

    def refused(self, rule_id: str) -> None:
        """Count a new term that is alerted but not remembered, because its rule is full."""
        self._metrics.state_refused.labels(self._label(rule_id)).inc()
        if rule_id not in self._reported_full:
            self._reported_full.add(rule_id)
            log.error(
                "a rule has as many terms as it may remember: new ones raise an alert each time",
                action="state_full",
                rule_id=rule_id,
                limit=self._limit,
            )

    async def sweep(self) -> None:
        """Do one slice of the sweep; called by a timer."""
        if self._app.rebalancing or self._app.in_recovery or not self._app.tables.actives_ready:
            return
        try:
            until = perf_counter() + _SLICE_SECONDS
            for number, partition in self._by_turns():
                await self._sweep_one(number, partition, until)
                if perf_counter() >= until or self._open.get(number) is not partition:
                    break
            self._measure()
        except Exception as exc:  # noqa: BLE001 - a row that cannot be read, a lost removal
            self._app.fail(exc)

    def _by_turns(self) -> Iterator[tuple[int, Partition]]:
        """Yield the partitions, starting with a different one each time."""
        numbers = sorted(self._open)
        self._turn += 1
        start = self._turn % max(1, len(numbers))
        for number in numbers[start:] + numbers[:start]:
            if number in self._open:
                yield number, self._open[number]

    async def _sweep_one(self, number: int, partition: Partition, until: float) -> None:
        if partition.table.has_changes:
            return  # a bundle is half judged, and the sweep would not find its rows in RocksDB
        removed = partition.sweep.step(
            now_ms(),
            self._app.consumer.committed(TP(self._topic, number)),
            rows=_SLICE_ROWS,
            removals=_SLICE_REMOVALS,
            enough=lambda: perf_counter() >= until,
        )
        if partition.table.has_changes:
            await self._send_removals(partition, removed)

    async def _send_removals(self, partition: Partition, removed: list[Removal]) -> None:
        """Write the removals to the changelog; nobody judges by these rows until it has them."""
        acknowledged = asyncio.get_running_loop().create_future()
        self._leaving.update((removal.key, acknowledged) for removal in removed)
        try:
            await asyncio.gather(*await partition.table.send_changes(self._app.outbox))
        finally:
            for removal in removed:
                del self._leaving[removal.key]
            acknowledged.set_result(None)
        for removal in removed:
            self._metrics.state_removed.labels(removal.reason).inc()

    def _measure(self) -> None:
        """Export rows and holds by rule.

        Rows of rules that do not run here are counted together. A hold counts only if it belongs to
        the present query of a rule: nobody misses alerts of a query that is gone.
        """
        totals: Counter[str] = Counter(dict.fromkeys((*self._rules, _OTHER_RULES), 0))
        held: Counter[str] = Counter(dict.fromkeys(self._histories.values(), 0))
        for partition in self._open.values():
            for rule_id, rows in partition.row_counts.by_rule().items():
                totals[self._label(rule_id)] += rows
            for history in partition.first_seen.held.open() & self._histories.keys():
                held[self._histories[history]] += 1
        for label, rows in totals.items():
            self._metrics.state_rule_entries.labels(label).set(rows)
        for rule_id, partitions in held.items():
            self._metrics.history_held.labels(rule_id).set(partitions)

    def _label(self, rule_id: str) -> str:
        return rule_id if rule_id in self._rules else _OTHER_RULES
