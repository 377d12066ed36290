"""One worker process: check, start, watch, stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from pipeline.assembly.native import uses_native
from pipeline.config import Settings
from pipeline.errors import EXIT_OK, EXIT_STOPPED, FirstseenError, StopError
from pipeline.kafka.topics import Cluster, check_topology
from pipeline.rules import RuleSet
from pipeline.stream.app import App, build_app
from pipeline.stream.backfills import begin_with_retries
from pipeline.stream.health import Health
from pipeline.stream.health_server import HealthServer
from pipeline.stream.sampler import Sampler
from pipeline.stream.source_watch import SourceWatch
from pipeline.stream.state_folder import state_folder
from pipeline.stream.state_owner import Owner, claim
from pipeline.stream.transport import Transport
from pipeline.telemetry.logging import get_logger
from pipeline.telemetry.metrics import Metrics

# The loop and the consumer's thread hand the interpreter to each other whenever one of them
# decompresses or waits. Taking it away in between, every 5 ms, only adds switches.
_SWITCH_SECONDS = 0.02

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# Docker kills a process ten seconds after SIGTERM, so this one ends before that in any case.
_FINISH_SECONDS = 6.0
_LEAVE_SECONDS = 1.5
_END_SECONDS = 9.0

# Faust and mode log under the module name of their subclasses, so their start and stop lines appear
# under our names too.
_FAUST_LOGGERS = (
    "faust",
    "mode",
    "aiokafka",
    "pipeline.stream.app",
    "pipeline.stream.recovery",
    "pipeline.stream.store",
    "pipeline.stream.tables",
    "pipeline.stream.transport",
)

log = get_logger(__name__)

_T = TypeVar("_T")


class Worker:
    """Runs a Faust app until it is asked to stop or cannot go on.

    Args:
        settings: the whole configuration.
        ruleset: the compiled rules.
        metrics: where everything is counted.
        transport_class: a different one for the embedded broker.
        on_ready: called once, when partitions are assigned and tables recovered.
    """

    def __init__(
        self,
        settings: Settings,
        ruleset: RuleSet,
        metrics: Metrics,
        *,
        transport_class: type[Transport] = Transport,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._settings = settings
        self._ruleset = ruleset
        self._metrics = metrics
        self._transport_class = transport_class
        self._on_ready = on_ready
        self._wake = asyncio.Event()
        self._failed = asyncio.Event()
        self._exit_code = EXIT_STOPPED

    def stop(self) -> None:
        """Ask for a graceful stop; safe to call more than once."""
        self._wake.set()

    def _on_failure(self) -> None:
        """Wake the worker up; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._failed.set)
        self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> int:
        """Run until stopped; return the process's exit code.

        SIGTERM and SIGINT are ignored from then on: the process is about to end.

        Raises:
            ConfigError: the web endpoints cannot listen, or the state folder is unusable, in use by
                another worker, or of another group or cluster.
            BrokerError: no broker answers, or the topics are not as they should be.
        """
        if self._settings.log.level != "debug":
            _set_library_level(logging.WARNING)
        self._loop = asyncio.get_running_loop()
        threading.excepthook = _thread_failed
        # Not asyncio's handlers: they end with the loop, and another signal would then kill a
        # process that has stopped in order.
        for number in _STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        try:
            return await self._checked_run()
        finally:
            for number in _STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._loop.call_soon_threadsafe(self.stop)

    async def _checked_run(self) -> int:
        cluster = await self._done_before_a_stop(lambda: check_topology(self._settings))
        if cluster is None:
            return self._exit_code
        with state_folder(self._settings.state.directory):
            self._claim_state(cluster)
            return await self._run_app(self._source_ids(cluster))

    def _source_ids(self, cluster: Cluster) -> dict[str, str]:
        sources = self._settings.topics.observations, self._settings.topics.new_terms
        return {name: cluster.topics[name].id for name in sources if cluster.topics[name].id}

    async def _run_app(self, source_ids: Mapping[str, str]) -> int:
        app = build_app(
            self._settings,
            self._ruleset,
            self._metrics,
            source_ids=source_ids,
            transport_class=self._transport_class,
        )
        app.on_failure = self._on_failure
        watch = SourceWatch(self._settings, source_ids, app.fail)
        health = Health(app)
        self._metrics.set_worker_state("starting")
        server = HealthServer(health, self._metrics, self._settings.web)
        if self._settings.web.enabled:
            await server.start()
        self._describe(server.port)
        try:
            if not await self._done_before_a_stop(self._begin_backfills):
                return self._exit_code
            _tune_garbage_collector()
            sys.setswitchinterval(_SWITCH_SECONDS)
            watch.start()
            return await self._run(app, health)
        finally:
            watch.stop()
            await server.stop()

    async def _done_before_a_stop(self, step: Callable[[], _T]) -> _T | None:
        """Run a startup step in a thread; return None if the worker is asked to stop first.

        Whatever the step is waiting for, the process then still ends in time.
        """
        doing = asyncio.create_task(asyncio.to_thread(step))
        waking = asyncio.create_task(self._wake.wait())
        await asyncio.wait({doing, waking}, return_when=asyncio.FIRST_COMPLETED)
        waking.cancel()
        if not doing.done():
            log.info("stopping", action="worker_stopping")
            self._exit_code = EXIT_OK  # nothing has begun
            self._end_in_time()
            return None
        return doing.result()

    def _claim_state(self, cluster: Cluster) -> None:
        settings = self._settings
        claim(settings.state.directory, Owner(cluster.id, settings.kafka.group_id))

    def _begin_backfills(self) -> bool:
        """Hold the rules that are new to this group, before any sighting of theirs is sent.

        Returns:
            True, when it is done.
        """
        if self._settings.state.backfill == "auto":
            begin_with_retries(self._settings, self._ruleset)
        return True

    async def _run(self, app: App, health: Health) -> int:
        starting = asyncio.create_task(app.start())
        starting.add_done_callback(lambda task: _report(task, app))
        sampler = Sampler(
            app, health, self._metrics, self._settings.topics.inputs, on_ready=self._on_ready
        )
        sampling = asyncio.create_task(sampler.run())
        await self._wake.wait()
        health.draining = True
        self._metrics.set_worker_state(health.state())
        self._end_in_time()
        try:
            if app.failure is None:
                log.info("stopping", action="worker_stopping")
                await self._finish(app)
            if app.failure is None:
                self._exit_code = EXIT_OK
                log.info("stopped, everything committed", action="worker_stopped")
            else:
                await self._abandon(app, app.failure)
            return self._exit_code
        finally:
            sampling.cancel()
            starting.cancel()

    def _end_in_time(self) -> None:
        """End the process when the time is up, even if a thread or the loop hangs.

        That counts as a crash like any other: what is not committed is done again.
        """
        timer = threading.Timer(_END_SECONDS, lambda: os._exit(self._exit_code))
        timer.daemon = True
        timer.start()

    async def _finish(self, app: App) -> None:
        """Finish and commit the work in progress; fail the app if that fails or takes too long."""
        stopping = asyncio.create_task(app.stop())
        failing = asyncio.create_task(self._failed.wait())
        await asyncio.wait(
            {stopping, failing}, timeout=_FINISH_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        failing.cancel()
        if not stopping.done():
            waiting = len(app.outbox)
            app.fail(
                StopError(
                    f"told to stop, but could not finish within {_FINISH_SECONDS:.0f} s: "
                    + (f"{waiting} outputs are not acknowledged" if waiting else "no answer")
                    + ". Check the brokers; a restart repeats what is not committed"
                )
            )
        elif (error := stopping.exception()) is not None:
            app.fail(error)
        elif not app.consumer.last_commit_succeeded:
            app.fail(StopError("told to stop, but the last commit did not go through"))

    async def _abandon(self, app: App, failure: BaseException) -> None:
        """Leave the group without committing, so that others take over at once."""
        # Otherwise what Faust logs while it is torn down would bury the reason.
        _set_library_level(logging.CRITICAL)
        if isinstance(failure, FirstseenError):
            self._exit_code = failure.exit_code
        log.error(
            "stopped itself; nothing past the failure is committed",
            action="worker_failed",
            error=failure,
        )
        thread = app.consumer._thread  # noqa: SLF001
        consumer = thread._consumer  # noqa: SLF001
        if consumer is not None and not thread.thread_loop.is_closed():
            leaving = asyncio.run_coroutine_threadsafe(consumer.stop(), thread.thread_loop)
            # Not awaited directly: Faust, falling over at the same time, may cancel it.
            done, _ = await asyncio.wait([asyncio.wrap_future(leaving)], timeout=_LEAVE_SECONDS)
            if not done or any(future.cancelled() or future.exception() for future in done):
                log.warning("could not leave the group", action="leave_failed")

    def _describe(self, port: int | None) -> None:
        metrics, runnable = self._metrics, self._ruleset.runnable
        metrics.set_ruleset(self._ruleset.digest)
        metrics.rules_loaded.labels("enabled").set(len(runnable))
        metrics.expect_topics(self._settings.topics.inputs)
        metrics.expect_rules(tuple(compiled.rule.rule_id for compiled in runnable))
        log.info(
            "starting",
            action="worker_starting",
            rules=len(self._ruleset.runnable),
            ruleset=self._ruleset.digest[:12],
            inputs=list(self._settings.topics.inputs),
            native=uses_native(self._settings),
            web=port,
        )


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """Log an error that nobody has caught in a thread."""
    name = "unknown" if args.thread is None else args.thread.name
    log.error(
        "a thread ended with an error", action="thread_failed", thread=name, error=args.exc_value
    )


def _tune_garbage_collector() -> None:
    """Make the garbage collector run rarely, and skip everything that is loaded by now.

    Records and verdicts are freed by their reference counts. With Python's default thresholds, a
    loaded worker spent a tenth of its time on looking through them all the same.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _set_library_level(level: int) -> None:
    for name in _FAUST_LOGGERS:
        logging.getLogger(name).setLevel(level)


def _report(task: asyncio.Task[None], app: App) -> None:
    if not task.cancelled() and task.exception() is not None:
        app.fail(task.exception() or RuntimeError("the app did not start"))
