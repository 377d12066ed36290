"""The three agents: what each does with a record, and when the record is acknowledged.

An agent reads bytes, does all of its work for a record, and acknowledges the record itself. No
exception ever leaves an agent. A record that cannot be processed becomes a dead letter; any other
error stops the worker without a commit, so whoever takes over reads the record again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from typing import Any

from pipeline.errors import StallError
from pipeline.stream.backfills import Backfills
from pipeline.stream.context import Context
from pipeline.stream.first_seen import FirstSeenAgent
from pipeline.stream.match import MatchAgent
from pipeline.stream.match_filter import MatchFilter
from pipeline.stream.quota import QuotaAgent
from pipeline.stream.records import record_of_message
from pipeline.stream.sweeper import TICK_SECONDS
from pipeline.stream.tables import StateTable
from pipeline.stream.transport import Delivered

Handle = Callable[[Sequence[Delivered]], Awaitable[None]]


class Agents:
    """Declares the agents on a Faust app and holds what they share."""

    def __init__(
        self,
        context: Context,
        match_filter: MatchFilter,
        *,
        first_seen: StateTable,
        quota: StateTable,
    ) -> None:
        self._app = context.app
        self._bundle_buffer = context.app.reading.bundle_buffer
        self._topics = context.settings.topics
        self._deadline = context.settings.stream.event_deadline.total_seconds()
        self.match = MatchAgent(context, match_filter)
        self.first_seen = FirstSeenAgent(context, first_seen)
        self.quota = QuotaAgent(context, quota)
        self._backfills = (
            Backfills(context, first_seen, self.first_seen.partitions)
            if context.settings.state.backfill == "auto"
            else None
        )

    def declare(self) -> None:
        """Declare one agent per stage.

        Concurrency comes from partitions and processes, never from coroutines.
        """
        self._declare("match", self._topics.inputs, self.match.handle)
        self._declare("first-seen", (self._topics.observations,), self.first_seen.handle)
        self._declare("quota", (self._topics.new_terms,), self.quota.handle)
        self._app.task(self.quota.send_outputs)
        if self._backfills is not None:
            self._app.task(self._backfills.run)
        self._app.timer(1.0, name="close-windows")(self.quota.close_windows)
        self._app.timer(TICK_SECONDS, name="sweep")(self.first_seen.sweeper.sweep)

    def on_rebalance_end(self) -> None:
        """Called by the app once the tables have recovered and the flow is open."""
        if self._backfills is not None:
            self._backfills.on_rebalance_end()

    def _declare(self, name: str, topics: tuple[str, ...], handle: Handle) -> None:
        topic = self._app.topic(
            *topics,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            acks=True,
        )

        async def run(stream: Any) -> None:
            await self._run(stream.noack().events(), handle)

        self._app.agent(topic, name=name, concurrency=1)(run)

    async def _run(self, events: AsyncIterable[Any], handle: Handle) -> None:
        try:
            async for event in events:
                await self._handle(event.message, handle)
        except asyncio.CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever it is, the worker stops uncommitted
            self._app.fail(exc)
            # Faust would restart a finished agent on the next record, skipping the one that failed.
            await asyncio.Future()

    async def _handle(self, message: Any, handle: Handle) -> None:
        """Handle what a message carries, and stop early once the flow has closed.

        What is left unhandled stays unacknowledged, and is read again.
        """
        consumer = self._app.consumer
        for delivered in self._deliveries(message):
            consumer.mark_in_flight(bundle.message for bundle in delivered)
            try:
                async with asyncio.timeout(self._deadline):
                    await handle(delivered)
            except TimeoutError as exc:
                raise self._stalled(message) from exc
            if not consumer.may_begin(message):
                return

    def _stalled(self, message: Any) -> StallError:
        return StallError(
            f"records of {message.topic}, partition {message.partition}, from offset "
            f"{message.offset} on were not done within stream.event_deadline "
            f"({self._deadline:.0f} s): {len(self._app.outbox)} outputs are not acknowledged. "
            f"Check the brokers; a restart repeats the work since the last commit"
        )

    def _deliveries(self, message: Any) -> Iterable[Sequence[Delivered]]:
        """Return the agent's work, portion by portion."""
        if not self._app.reading.bundles(message.topic):
            return ([Delivered(message, (record_of_message(message),))],)
        return self._bundle_buffer.portions((message, *message.others))
