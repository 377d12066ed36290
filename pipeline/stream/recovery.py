"""Table recovery that loses nothing when it hands partitions over to the streams.

Stock Faust opens the flow to read the changelogs, and resumes the source partitions before it seeks
them. Whatever was queued in between is thrown away by ``flow_control.resume()``, and the commit
then goes past it. Here, the hand-over happens with the flow closed: first the changelog queue is
drained, then Faust resumes and seeks.

A worker that stops leaves its group before it closes its tables. Closing writes them to disk, which
may take seconds, and the partitions would stand still in the meantime.
"""

from __future__ import annotations

import asyncio

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery


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
