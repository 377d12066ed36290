"""Backfills that a worker runs by itself if `state.backfill` is `auto`.

Before a worker joins the group, it begins the backfill of each rule that has none
(`begin_backfills`). From then on the rule is held, so that it raises no alerts before it has
learned. The rest is done by the worker that owns the rule's *home*, which is one partition of the
observations topic. It runs the backfills in a thread of their own, one rule after another, while
the stages go on. When partitions move, the new owner continues from the checkpoint. If two workers
run the same backfill for a moment, both do the same thing, which does no harm.

The owner checks again every minute. A rule can be held although its backfill was done, for two
reasons: a worker that started at the same time sent its hold late, or somebody began the backfill
again and left it unfinished. In both cases the owner continues it. Once a day the owner also
commits the checkpoint again, because brokers forget offsets that have not been committed for a
week.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic, sleep
from typing import Final, NamedTuple

from faust.types import TP

from pipeline.config import Settings
from pipeline.engine.identity import HISTORY_BYTES, KEY_BYTES
from pipeline.engine.partition import partition_of
from pipeline.errors import BrokerUnreachableError, FirstseenError
from pipeline.history import Backfill, BackfillResult, Progress, begin_backfills
from pipeline.kafka.groups import CLUSTER_SILENCE_SECONDS
from pipeline.rules import CompiledRule, RuleSet
from pipeline.stream.context import Context
from pipeline.stream.partitions import Partitions
from pipeline.stream.tables import StateTable
from pipeline.telemetry.logging import get_logger

_PAUSE_SECONDS: Final = 1.0
_PROGRESS_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 60.0
_COMMIT_ANEW_SECONDS: Final = 86_400.0

log = get_logger(__name__)


def begin_with_retries(settings: Settings, ruleset: RuleSet) -> None:
    """Hold the rules that are new to this group, before any sighting of theirs is sent.

    The brokers have answered before. If they are slow now, this tries again, and only the rules
    that were not begun yet remain to be done.

    Raises:
        BrokerError: the brokers do not answer for a minute, or refuse.
        StateError: a newer version of firstseen began one of the backfills.
    """
    rules: list[str] = []
    heard = logged = monotonic()
    while True:
        try:
            for begun in begin_backfills(settings, ruleset):
                rules.append(begun.rule_id)
                heard = monotonic()
                if begun.left == 0 or heard - logged > _PROGRESS_SECONDS:
                    log.info(
                        "rules will learn from the log first",
                        action="backfill_begun",
                        rules=rules,
                        left=begun.left,
                    )
                    rules, logged = [], heard
        except BrokerUnreachableError as error:
            if monotonic() - heard > CLUSTER_SILENCE_SECONDS:
                raise
            log.warning(
                "the brokers are slow; beginning the backfills goes on",
                action="backfill_delayed",
                error=error,
            )
            sleep(_PAUSE_SECONDS)
        else:
            return


class _Done(NamedTuple):
    """A finished backfill: when it finished, and the offset of its last record in its home."""

    at: float
    offset: int


class Backfills:
    """Finishes the backfills of the rules whose home partition this worker owns.

    Args:
        context: the app, settings and rules.
        table: the first seen table.
        partitions: those of the table that are ours.
    """

    def __init__(self, context: Context, table: StateTable, partitions: Partitions) -> None:
        self._app = context.app
        self._settings = context.settings
        self._metrics = context.metrics
        self._rules = [each for each in context.ruleset.runnable if each.terms]
        self._table = table
        self._partitions = partitions
        self._done: dict[str, _Done] = {}
        self._ours: frozenset[int] = frozenset()
        self._wake = asyncio.Event()

    def on_rebalance_end(self) -> None:
        """Take on the rules whose homes are ours now, and let go of the others."""
        self._ours = frozenset(self._table.active_partitions())
        self._wake.set()

    async def run(self) -> None:
        """Run whatever is due, after each rebalance and once a minute; runs as long as the app."""
        try:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _LOOK_SECONDS)
                self._wake.clear()
                for compiled in self._rules:
                    await self._turn(compiled)
        except Exception as error:  # noqa: BLE001 - damaged state, or a bug: rules would stay silent
            self._app.fail(error)
        finally:
            self._ours = frozenset()  # so that a thread that is reading the log stops

    async def _turn(self, compiled: CompiledRule) -> None:
        if self._app.rebalancing or self._app.in_recovery:
            return  # the tables must not be read now; `on_rebalance_end` wakes us
        history = bytes.fromhex(compiled.history_id)
        partitions = self._app.consumer.topic_partitions(self._settings.topics.observations) or 1
        home = partition_of(history, partitions)
        if home not in self._ours or self._is_done(compiled, home):
            return
        known, held = self._is_known(home, history), self._is_held(home, history)
        try:
            result = await asyncio.to_thread(self._backfill, compiled, home, known=known, held=held)
        except FirstseenError as error:
            log.warning(
                "a backfill failed and is tried again",
                action="backfill_failed",
                rule_id=compiled.rule.rule_id,
                error=error,
            )
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._wake.set)
        else:
            self._note(result, home)

    def _is_done(self, compiled: CompiledRule, home: int) -> bool:
        """Whether a rule needs nothing: its backfill was done lately and it was not held since."""
        done = self._done.get(compiled.history_id)
        if done is None or monotonic() - done.at > _COMMIT_ANEW_SECONDS:
            return False
        observations = TP(self._settings.topics.observations, home)
        if self._app.consumer.committed(observations) <= done.offset:
            return True  # its release has not been processed yet
        return not self._is_held(home, bytes.fromhex(compiled.history_id))

    def _is_held(self, home: int, history: bytes) -> bool:
        return history[:HISTORY_BYTES] in self._partitions.partition(home).first_seen.held.open()

    def _is_known(self, home: int, history: bytes) -> bool:
        """Whether the history was taught, or had seen something, before it was held."""
        partition = self._partitions.partition(home)
        if partition.first_seen.held.taught(history[:HISTORY_BYTES]):
            return True
        found = next(partition.table.items_from(history), None)
        return found is not None and len(found[0]) == KEY_BYTES and found[0].startswith(history)

    def _backfill(
        self, compiled: CompiledRule, home: int, *, known: bool, held: bool
    ) -> BackfillResult:
        """Run one backfill in a thread; it stops once its home belongs to another worker."""
        rule_id = compiled.rule.rule_id
        remaining = self._metrics.backfill_remaining.labels(rule_id)
        records = self._metrics.backfill_records.labels(rule_id)
        read: int | None = None

        def progress(now: Progress) -> None:
            nonlocal read
            if read is None:
                log.info("a rule learns from the log", action="backfill_started", rule_id=rule_id)
                read = 0
            remaining.set(now.total - now.done)
            records.inc(now.read - read)
            read = now.read

        backfill = Backfill(
            self._settings,
            compiled,
            on_progress=progress,
            stopped=lambda: home not in self._ours,
        )
        result = backfill.run(known=known, held=held)
        remaining.set(0)  # done, or another worker's; after a failure it stays as it is
        return result

    def _note(self, result: BackfillResult, home: int) -> None:
        if not result.is_done:
            return
        self._done[result.history] = _Done(monotonic(), result.sent_to.get(home, -1))
        if not result.was_done:
            log.info("a rule has learned", action="backfill_done", **result.summary())
