"""Table recovery that loses nothing when it hands partitions over to the streams.

Stock Faust opens the flow to read the changelogs, and resumes the source partitions before it seeks
them. Whatever was queued in between is thrown away by ``flow_control.resume()``, and the commit
then goes past it. Here, the hand-over happens with the flow closed: first the changelog queue is
drained, then Faust resumes and seeks.

Stock Faust also waits for a record at the last offset of each changelog. After a transaction, which
a tool that copies topics may have used, that offset holds a marker, and nobody is given it. Here, a
changelog that is read to its end is done.

A worker that stops leaves its group before it closes its tables. Closing writes them to disk, which
may take seconds, and the partitions would stand still in the meantime.
"""

from __future__ import annotations

import asyncio
from typing import Final

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP

_LOOK_SECONDS: Final = 3.0


class SafeRecovery(Recovery):
    """Recovery that closes the flow before it hands the partitions to the streams."""

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        consumer = self.app.consumer
        consumer.stop_flow()
        self.app.flow_control.suspend()
        queue = self.tables.changelog_queue
        # _slurp_changelogs is still emptying it, and Faust's queue has no event for "empty".
        while not queue.empty() and not self.should_stop:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        if self.standby_tps:
            # Read again from the last applied record on: one may have been dropped half-way.
            await self._seek_offsets(consumer, self.standby_tps, self.standby_offsets, "standby")
        await super().on_recovery_completed(generation_id)

    async def on_start(self) -> None:
        await super().on_start()
        self.add_future(self._end_at_markers())

    async def _end_at_markers(self) -> None:
        """Let recovery end where only markers of transactions are left to read."""
        at_end: dict[TP, int] = {}
        while not self.should_stop:
            await self.sleep(_LOOK_SECONDS)
            before, at_end = at_end, self._read_to_the_end()
            for tp, applied in at_end.items():
                # What was read is applied within moments. Should it not be, it still is: recovery
                # empties its queue before it hands over.
                if before.get(tp) == applied:
                    self.active_highwaters[tp] = applied

    def _read_to_the_end(self) -> dict[TP, int]:
        """Return the last applied offset of each changelog that is read but seems unfinished."""
        if not self.in_recovery or not self.tables.changelog_queue.empty():
            return {}
        found = {}
        for tp, records in self.active_remaining().items():
            # To Faust, the high watermark is the offset of the last record, not the one after it.
            if records > 0 and self.app.consumer.next_offset(tp) > self.active_highwaters[tp]:
                found[tp] = self.active_offsets[tp]
        return found


class SafeTableManager(TableManager):
    """Creates a `SafeRecovery`; given to Faust as the ``TableManager`` setting."""

    _recovery: Recovery | None

    async def on_stop(self) -> None:
        # Faust stops the tables when the streams are done and everything is committed. After a
        # failure the consumer's thread may be gone; in that case `worker.Worker` leaves the group.
        if self.app.failure is None:
            await self.app.consumer.leave_group()
        await super().on_stop()

    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = SafeRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
