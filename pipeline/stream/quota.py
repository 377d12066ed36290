"""Stage 3, QUOTA: new terms in, alerts out, with a limit per rule and window."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from faust.types import TP

from pipeline.clock import now_ms
from pipeline.config.values import milliseconds
from pipeline.engine.learning import LearningPeriods
from pipeline.engine.quota import Output, Quota, Verdict
from pipeline.engine.wire import CloseWindow, NewTerm, decode_candidate, encode
from pipeline.errors import DecodeError
from pipeline.rules.timestamp import is_usable
from pipeline.stream.context import Context
from pipeline.stream.outbox import Outgoing
from pipeline.stream.pending_outputs import PendingOutputs, PendingQueue
from pipeline.stream.records import record_of_fetched
from pipeline.stream.tables import PartitionTable, StateTable
from pipeline.stream.transport import Delivered
from pipeline.telemetry.logging import get_logger

log = get_logger(__name__)

STAGE = "quota"


class QuotaAgent:
    """Decides where each new term goes; the decision is durable before its outputs leave.

    The verdict depends on the clock, so a replay could decide differently. Therefore the rule is
    *state first*:

    1. the changelog acknowledges the rows of the decision;
    2. the outputs are sent;
    3. the record is acknowledged.

    Meanwhile the agent goes on deciding, and `send_outputs` follows in order. So a round trip is
    paid per batch and not per alert.
    """

    def __init__(self, context: Context, table: StateTable) -> None:
        settings = context.settings
        self._app = context.app
        self._topics = settings.topics
        self._source_ids = context.source_ids
        self._dedupe_ms = milliseconds(settings.state.dedupe_retention)
        self._learning = LearningPeriods(
            milliseconds(settings.state.learning),
            {
                rule_id: milliseconds(duration)
                for rule_id, duration in settings.state.learning_periods.items()
            },
        )
        self._ruleset = context.ruleset
        self._metrics = context.metrics
        self._dead_letters = context.dead_letters
        self._table = table
        self._open: dict[int, tuple[PartitionTable, Quota]] = {}
        self._ticks_sent: set[tuple[int, str, int]] = set()
        self._pending = PendingQueue(settings.stream.max_waiting_bytes)
        table.on_recover(self._recovered)

    async def _recovered(self) -> None:
        """Open every partition that we own now, because windows may be waiting to be closed."""
        try:
            await self._table.check_source(self._topics.new_terms, self._source_ids)
            self._open.clear()
            self._ticks_sent.clear()
            for number in self._table.active_partitions():
                table = self._table.partition(number)
                quota = Quota(table, dedupe_ms=self._dedupe_ms, learning=self._learning)
                quota.recover(table.items())
                self._open[number] = (table, quota)
        except Exception as exc:  # noqa: BLE001 - Faust would swallow it
            self._app.fail(exc)
            await asyncio.Future()  # Faust would let the agents go on, by rows that are not sound

    async def handle(self, delivered: Sequence[Delivered]) -> None:
        """Handle bundles of candidates and ticks; the outputs of each follow its rows."""
        for message, records in delivered:
            await self._decide(message, records)

    async def _decide(self, message: Any, records: Sequence[Any]) -> None:
        """Decide a bundle and write its rows; `send_outputs` sends the outputs."""
        table, quota = self._open[message.partition]
        committed = self._app.consumer.committed(TP(message.topic, message.partition))
        candidates = await self._decoded(records)
        table.read_ahead(quota.rows_of(candidate for _, candidate in candidates))
        outputs: list[Output] = []
        for offset, candidate in candidates:
            if isinstance(candidate, CloseWindow):
                decision = quota.close(candidate, offset, now_ms(), committed)
                # If the tick came too early, because a clock was set back, it may be sent again.
                self._ticks_sent.discard(_window_of(message.partition, candidate))
            else:
                decision = quota.admit(candidate, offset, now_ms(), committed)
                if decision.verdict is Verdict.DUPLICATE:
                    self._metrics.alerts_duplicate.inc()
            outputs += decision.outputs
        changelog = await table.send_changes(self._app.outbox)
        await self._pending.put(PendingOutputs(changelog, outputs, message))

    async def _decoded(self, records: Sequence[Any]) -> list[tuple[int, NewTerm | CloseWindow]]:
        """Return candidates with their offsets; other records become dead letters."""
        candidates = []
        for record in records:
            try:
                candidates.append((record.offset, decode_candidate(record.value or b"")))
            except DecodeError as exc:
                await self._dead_letters.write(
                    record_of_fetched(record), code=exc.reason, stage=STAGE, text=str(exc)
                )
        return candidates

    async def send_outputs(self) -> None:
        """Send outputs in order, each after the rows it depends on; runs as long as the app.

        If another worker owns the partition by now, it decides again, with a clock of its own. If
        it has read our rows, it repeats our decision; if not, our decision must not leave. So in
        either case nothing is sent from here.
        """
        try:
            while True:
                pending = await self._pending.get()
                if pending.changelog:
                    await asyncio.gather(*pending.changelog)
                if await self._app.consumer.still_owns(pending.message):
                    await self._send(pending.outputs)
                    self._app.consumer.acknowledge(pending.message)
                else:
                    self._abandon(pending)
                self._pending.sent(pending)
        except asyncio.CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001 - an unacknowledged row or output: stop, replay
            self._app.fail(exc)

    def _abandon(self, pending: PendingOutputs) -> None:
        message = pending.message
        log.warning(
            "others have the partition: what was decided does not leave",
            action="decisions_dropped",
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            outputs=len(pending.outputs),
        )
        self._app.consumer.abandon(message)

    async def _send(self, outputs: Sequence[Output]) -> None:
        for destination, topic in (
            ("alerts", self._topics.alerts),
            ("overflow", self._topics.overflow),
        ):
            chosen = [output for output in outputs if output.destination == destination]
            sending = await self._app.outbox.send_keyed(
                topic, [Outgoing(o.key, o.value, output_headers(o)) for o in chosen]
            )
            if sending:
                asyncio.gather(*sending, return_exceptions=True).add_done_callback(
                    partial(self._count, chosen)
                )

    def _count(self, outputs: Sequence[Output], sent: asyncio.Future[list[Any]]) -> None:
        """Count outputs that the broker has acknowledged."""
        if sent.cancelled() or any(isinstance(one, BaseException) for one in sent.result()):
            return  # the outbox has stopped the worker
        for output in outputs:
            if output.destination == "overflow":
                reason = "learning" if output.learning else "quota"
                self._metrics.alerts_overflow.labels(output.rule_id, reason).inc()
            elif output.summary:
                self._metrics.alert_summaries.inc()
            else:
                self._count_alert(output)

    def _count_alert(self, output: Output) -> None:
        self._metrics.alerts.labels(output.rule_id).inc()
        compiled = self._ruleset.get(output.rule_id)
        if compiled is not None:
            self._metrics.alerts_by_severity.labels(compiled.rule.severity).inc()
        if output.source_timestamp_ms is not None and is_usable(output.source_timestamp_ms):
            self._metrics.alert_latency.observe((now_ms() - output.source_timestamp_ms) / 1000)

    async def close_windows(self) -> None:
        """Send a tick through the topic for each ended window; the log keeps the order exact."""
        try:
            for number, (_, quota) in list(self._open.items()):
                for tick in quota.ended(now_ms()):
                    if _window_of(number, tick) not in self._ticks_sent:
                        self._ticks_sent.add(_window_of(number, tick))
                        await self._send_tick(number, tick)
        except Exception as exc:  # noqa: BLE001 - a lost tick would be a lost summary
            self._app.fail(exc)

    async def _send_tick(self, partition: int, tick: CloseWindow) -> None:
        record = Outgoing(tick.rule.id.encode(), encode(tick))
        await self._app.outbox.send_to(self._topics.new_terms, partition, [record])


def _window_of(partition: int, tick: CloseWindow) -> tuple[int, str, int]:
    return partition, tick.rule.id, tick.window_start_ms


def output_headers(output: Output) -> tuple[tuple[str, bytes], ...]:
    """Return headers that let a consumer route an alert without parsing it."""
    return (
        ("content-type", b"application/json"),
        ("firstseen.rule_id", output.rule_id.encode()),
        ("firstseen.kind", _kind(output)),
    )


def _kind(output: Output) -> bytes:
    if output.summary:
        return b"summary"
    return b"learning" if output.learning else b"alert"
