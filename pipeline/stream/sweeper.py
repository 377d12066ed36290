"""The assigned partitions of the first seen table, and the sweep that goes over them.

The sweep runs on the worker's own event loop, between records, in slices of a few milliseconds per
tick, so that the stream never waits for it. `pipeline.engine.sweep` decides what it does.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

from faust.types import TP

from pipeline.clock import now_ms
from pipeline.config.values import milliseconds
from pipeline.engine.first_seen import FirstSeen
from pipeline.engine.row_counts import RowCounts
from pipeline.engine.sweep import Removal, Sweep, SweepSettings
from pipeline.stream.context import Context
from pipeline.stream.tables import PartitionTable, StateTable
from pipeline.telemetry.logging import get_logger

TICK_SECONDS = 0.25
_SLICE_SECONDS = 0.004
_SLICE_ROWS = 4_000
_SLICE_REMOVALS = 100
_OTHER_RULES = "other"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Partition:
    """One assigned partition: its rows, and what counts them, judges by them and removes them."""

    table: PartitionTable
    row_counts: RowCounts
    first_seen: FirstSeen
    sweep: Sweep


class Sweeper:
    """Opens the partitions of the first seen table that this worker owns, and sweeps them."""

    def __init__(self, context: Context, table: StateTable) -> None:
        state = context.settings.state
        self._app = context.app
        self._topic = context.settings.topics.observations
        self._limit = state.max_entries_per_rule
        self._settings = SweepSettings(
            grace_ms=(None if state.expiry_grace is None else milliseconds(state.expiry_grace)),
            pause_ms=milliseconds(state.sweep_interval),
            forget_oldest=state.when_full == "forget_oldest",
        )
        self._metrics = context.metrics
        self._rules = frozenset(each.rule.rule_id for each in context.ruleset.runnable)
        self._histories = {
            bytes.fromhex(each.history_id): each.rule.rule_id
            for each in context.ruleset.runnable
            if each.terms
        }
        self._table = table
        self._open: dict[int, Partition] = {}
        self._leaving: dict[bytes, asyncio.Future[None]] = {}
        self._reported_full: set[str] = set()
        self._turn = 0
        table.on_recover(self._recovered)

    async def _recovered(self) -> None:
        """Open every partition that we own now, so that a quiet one is swept as well."""
        try:
            self._open.clear()
            for number in self._table.active_partitions():
                self.partition(number)
        except Exception as exc:  # noqa: BLE001 - Faust would swallow it
            self._app.fail(exc)

    def partition(self, number: int) -> Partition:
        """Return an assigned partition."""
        found = self._open.get(number)
        if found is None:
            table = self._table.partition(number)
            row_counts = RowCounts(self._share())
            first_seen = FirstSeen(table, row_counts)
            found = self._open[number] = Partition(
                table=table,
                row_counts=row_counts,
                first_seen=first_seen,
                sweep=Sweep(
                    table, row_counts, first_seen.forgotten, first_seen.clock, self._settings
                ),
            )
        return found

    def _share(self) -> int | None:
        """Return this partition's share of a rule's limit; keys are spread evenly."""
        if self._limit is None:
            return None
        partitions = self._app.consumer.topic_partitions(self._topic) or 1
        return math.ceil(self._limit / partitions)

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
