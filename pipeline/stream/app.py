"""The Faust app of a worker: translated settings, corrected classes, three agents, two tables.

Nothing is created at import time: the worker calls `build_app`, and so do tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import Any, cast

import faust
from faust.types import TP
from faust.types.auth import CredentialsT
from mode import CrashingSupervisor
from yarl import URL

from pipeline.assembly.native import uses_native
from pipeline.config import Settings
from pipeline.kafka.security import Sasl, sasl, ssl_context
from pipeline.rules import RuleSet
from pipeline.stream.agents import Agents
from pipeline.stream.context import Context
from pipeline.stream.dead_letters import DeadLetters
from pipeline.stream.failures import explained
from pipeline.stream.match_filter import MatchFilter
from pipeline.stream.outbox import Outbox
from pipeline.stream.recovery import SafeTableManager
from pipeline.stream.store import SharedMemoryOptions, StoreOptions
from pipeline.stream.tables import StateTable
from pipeline.stream.transport import BundleBuffer, Depth, Reading, Transport, TransportOptions
from pipeline.stream.transport.liveness import task_failure
from pipeline.stream.transport.membership import lost_partition, refusal
from pipeline.telemetry.logging import get_logger
from pipeline.telemetry.metrics import Metrics

log = get_logger(__name__)

FIRST_SEEN_TABLE = "first-seen"
QUOTA_TABLE = "quota"


class App(faust.App):
    """A Faust app that has an outbox and remembers why it failed."""

    def __init__(
        self,
        *args: Any,
        transport_class: type[Transport],
        transport_options: TransportOptions,
        reading: Reading,
        metrics: Metrics,
        linger_seconds: float,
        explain: Callable[[BaseException], BaseException],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._transport_class = transport_class
        self._transport_options = transport_options
        self.reading = reading
        self.metrics = metrics
        self.failure: BaseException | None = None
        self._explain = explain
        self.on_failure: Callable[[], None] = lambda: None
        self.outbox = Outbox(
            self._aiokafka_producer, linger_seconds=linger_seconds, on_failure=self.fail
        )
        self.state_tables: dict[str, StateTable] = {}
        self.stages: Agents | None = None
        self._rebalance_started_at = monotonic()

    def _new_transport(self) -> Transport:
        return self._transport_class(
            self.conf.broker_consumer,
            self,
            options=self._transport_options,
            reading=self.reading,
        )

    def _new_producer_transport(self) -> Transport:
        return cast("Transport", self.transport)

    def _aiokafka_producer(self) -> Any:
        return self.producer._ensure_producer()  # noqa: SLF001 - Faust has no public way

    def fail(self, error: BaseException) -> None:
        """Remember the first error that must stop the worker, and notify whoever waits for it."""
        if self.failure is None:
            self.failure = self._explain(error)
            self.on_failure()

    def _crash(self, reason: BaseException) -> None:
        """Called when the app crashes, or when a crashed service takes its parents down with it.

        May run in the consumer's thread. Without this, a worker whose fetcher has crashed would
        stay alive and read nothing.
        """
        self.fail(reason)
        super()._crash(reason)

    def watch(self) -> None:
        """Fail if aiokafka can never go on; called once a second.

        It has lost a task, the group refuses us, or a partition does not exist any more.
        """
        consumer = self.consumer._thread._consumer  # noqa: SLF001
        error = (
            task_failure(consumer, self.producer._producer)  # noqa: SLF001
            or refusal(consumer)
            or lost_partition(consumer)
        )
        if error is not None:
            self.fail(error)

    def on_committed(self, offsets: Mapping[TP, int]) -> None:
        """Called by the consumer after each successful commit."""
        for table in self.state_tables.values():
            table.on_committed(offsets)

    def on_commit_ended(self, result: str, seconds: float) -> None:
        """Called by the consumer after each attempt: ``success``, ``failure`` or ``held``."""
        self.metrics.commits.labels(result).inc()
        self.metrics.commit_seconds.observe(seconds)

    def on_jump(self, tp: TP, expected: int, position: int) -> None:
        """Called by the consumer when the log does not have the offset that was to be read next."""
        place = {"topic": tp.topic, "partition": tp.partition, "offset": expected}
        if position < expected:
            log.error(
                "the log ends before the offset to read next: it is read again from its beginning",
                action="log_cut_short",
                **place,
                continues_at=position,
            )
        elif self.topics.acks_enabled_for(tp.topic):
            self.metrics.records_lost.labels(tp.topic).inc(position - expected)
            log.error(
                "records were deleted before they were read",
                action="records_lost",
                **place,
                records=position - expected,
            )
        else:
            # Faust asks for the offset before the first one, so nobody knows how many.
            self.metrics.changelogs_incomplete.labels(self._table_of(tp.topic)).inc()
            log.warning(
                "records at the beginning of a changelog were deleted before a table had them",
                action="changelog_incomplete",
                **place,
                continues_at=position,
            )

    def _table_of(self, changelog: str) -> str:
        return next(
            name for name, table in self.state_tables.items() if table.changelog_name == changelog
        )

    def on_damaged_state(self, table: str) -> None:
        stage = "first_seen" if table == FIRST_SEEN_TABLE else "quota"
        self.metrics.errors.labels(stage, "state_damaged").inc()

    def on_rebalance_start(self) -> None:
        self._rebalance_started_at = monotonic()
        self.metrics.rebalances.inc()
        super().on_rebalance_start()

    def on_rebalance_end(self) -> None:
        super().on_rebalance_end()
        if self.stages is not None:
            self.stages.on_rebalance_end()
        self.metrics.rebalance_seconds.observe(monotonic() - self._rebalance_started_at)


def build_app(
    settings: Settings,
    ruleset: RuleSet,
    metrics: Metrics,
    *,
    source_ids: Mapping[str, str],
    transport_class: type[Transport] = Transport,
) -> App:
    """Build the app of one worker.

    Args:
        settings: the whole configuration. Every Faust setting that matters is passed explicitly, so
            that none of Faust's own environment variables leaks in.
        ruleset: the rules that stage 1 matches, and with which stage 2 describes alerts.
        metrics: the catalogue's metrics.
        source_ids: see `Context`.
        transport_class: `Transport`, or that of the embedded broker.
    """
    match_filter = MatchFilter(settings, ruleset, metrics)
    depth = Depth[settings.stream.filter_depth.upper()]
    if depth > Depth.EVENT and not match_filter.searches:
        depth = Depth.EVENT  # a rule without a literal leaves nothing to search for
    app = App(
        settings.kafka.group_id,
        reading=Reading(
            bundle_buffer=BundleBuffer(settings.stream.max_waiting_bytes),
            bundled=frozenset({settings.topics.observations, settings.topics.new_terms}),
            changelogs=frozenset({settings.first_seen_changelog, settings.quota_changelog}),
            record_filter=match_filter if depth > Depth.AGENT else None,
            depth=depth,
            native=uses_native(settings),
        ),
        transport_class=transport_class,
        metrics=metrics,
        linger_seconds=settings.kafka.linger.total_seconds(),
        explain=partial(explained, settings=settings),
        transport_options=TransportOptions(
            isolation_level=settings.kafka.isolation_level,
            enable_idempotence=settings.kafka.enable_idempotence,
            fetch_max_bytes=settings.stream.fetch_max_bytes,
            settle_seconds=settings.kafka.delivery_timeout.total_seconds(),
            revoke_seconds=settings.kafka.rebalance_timeout.total_seconds() / 2,
        ),
        **_faust_settings(settings),
    )
    rocks = SharedMemoryOptions(
        StoreOptions(settings.state.block_cache_bytes, settings.state.write_buffer_bytes)
    )
    for name in (FIRST_SEEN_TABLE, QUOTA_TABLE):
        app.state_tables[name] = app.Table(name, key_type=bytes, value_type=bytes, rocks=rocks)
    dead_letters = DeadLetters(app.outbox, settings, ruleset.digest, metrics)
    app.stages = Agents(
        Context(app, settings, ruleset, metrics, dead_letters, source_ids),
        match_filter,
        first_seen=app.state_tables[FIRST_SEEN_TABLE],
        quota=app.state_tables[QUOTA_TABLE],
    )
    app.stages.declare()
    return app


def _faust_settings(settings: Settings) -> dict[str, Any]:
    kafka, stream, state = settings.kafka, settings.stream, settings.state
    # Faust derives client ids, topic prefixes and folders from the id, so it must be the group id.
    return {
        "broker": [URL(f"kafka://{server}") for server in kafka.bootstrap_servers.split(",")],
        "broker_credentials": _credentials(settings),
        "broker_client_id": kafka.client_id,
        "consumer_group_instance_id": kafka.group_instance_id,
        "consumer_auto_offset_reset": "earliest",
        "consumer_max_fetch_size": stream.max_partition_fetch_bytes,
        "broker_session_timeout": kafka.session_timeout.total_seconds(),
        "broker_heartbeat_interval": kafka.heartbeat_interval.total_seconds(),
        "broker_rebalance_timeout": kafka.rebalance_timeout.total_seconds(),
        "broker_request_timeout": kafka.request_timeout.total_seconds(),
        "broker_max_poll_interval": kafka.max_poll_interval.total_seconds(),
        # These are bundles where records are bundled, and each may take a tenth of a second to
        # read.
        "broker_max_poll_records": 500 if stream.filter_depth == "agent" else 4,
        "broker_check_crcs": True,
        "broker_commit_interval": stream.commit_interval.total_seconds(),
        "broker_commit_every": 10_000,
        "processing_guarantee": "at_least_once",
        "producer_acks": -1,
        "producer_linger": kafka.linger.total_seconds(),
        "producer_compression_type": (
            None if kafka.compression_type == "none" else kafka.compression_type
        ),
        "producer_request_timeout": kafka.delivery_timeout.total_seconds(),
        "producer_max_request_size": kafka.message_max_bytes,
        "producer_max_batch_size": 262_144,
        "store": "rocksdb://",
        # Absolute, because Faust looks for a relative tabledir in its folder for the app's version.
        "datadir": str(state.directory.absolute()),
        "tabledir": str(state.directory.absolute()),
        "Table": StateTable,
        "TableManager": SafeTableManager,
        "table_standby_replicas": state.standby_replicas,
        "recovery_consistency_check": True,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "agent_supervisor": CrashingSupervisor,
        "stream_buffer_maxsize": stream.buffer_records,
        "stream_wait_empty": True,
        "stream_recovery_delay": 0.0,
        "web_enabled": False,
        "web_tables_enabled": False,
        "web_router_enabled": False,
        "autodiscover": False,
        "logging_config": None,
        "loghandlers": [],
        "env_prefix": "NO_ENVIRONMENT_",
    }


def _credentials(settings: Settings) -> CredentialsT | None:
    context = ssl_context(settings)
    account: Sasl | None = sasl(settings)
    if account is not None:
        return faust.SASLCredentials(
            username=account.username,
            password=account.password,
            mechanism=account.mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context=context)
