"""The partitions of the first seen table that this worker owns."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.config.values import milliseconds
from pipeline.engine.first_seen import FirstSeen
from pipeline.engine.row_counts import RowCounts
from pipeline.engine.sweep import Sweep, SweepSettings
from pipeline.stream.context import Context
from pipeline.stream.tables import PartitionTable, StateTable


@dataclass(frozen=True, slots=True)
class Partition:
    """One assigned partition: its rows, and what counts them, judges by them and removes them."""

    table: PartitionTable
    row_counts: RowCounts
    first_seen: FirstSeen
    sweep: Sweep


class Partitions:
    """Opens the partitions of the first seen table, each when it is asked for or recovered."""

    def __init__(self, context: Context, table: StateTable) -> None:
        state = context.settings.state
        self._app = context.app
        self._topic = context.settings.topics.observations
        self._source_ids = context.source_ids
        self._limit = state.max_entries_per_rule
        self._settings = SweepSettings(
            grace_ms=(None if state.expiry_grace is None else milliseconds(state.expiry_grace)),
            pause_ms=milliseconds(state.sweep_interval),
            forget_oldest=state.when_full == "forget_oldest",
        )
        self._table = table
        self._open: dict[int, Partition] = {}
        table.on_recover(self._recovered)

    @property
    def by_number(self) -> Mapping[int, Partition]:
        """The partitions that are open; it changes with them."""
        return self._open

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

    async def _recovered(self) -> None:
        """Open every partition that we own now, so that a quiet one is swept as well."""
        try:
            await self._table.check_source(self._topic, self._source_ids)
            self._open.clear()
            for number in self._table.active_partitions():
                self.partition(number)
        except Exception as exc:  # noqa: BLE001 - Faust would swallow it
            self._app.fail(exc)
            await asyncio.Future()  # Faust would let the agents go on, by rows that are not sound

    def _share(self) -> int | None:
        """Return this partition's share of a rule's limit; keys are spread evenly."""
        if self._limit is None:
            return None
        partitions = self._app.consumer.topic_partitions(self._topic) or 1
        return math.ceil(self._limit / partitions)
