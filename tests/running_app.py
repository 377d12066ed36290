"""The real app of a worker inside a test's own event loop, so that a test can reach into it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pipeline.config import Settings
from pipeline.kql import FieldTable
from pipeline.rules import RuleSet, load_rules
from pipeline.stream.app import App, build_app
from pipeline.telemetry.metrics import Metrics
from tests.deployment import START_SECONDS, Deployment


def app_of(deployment: Deployment, **settings: str) -> App:
    """Return an app that has not been started, with the settings of the deployment's workers."""
    deployment.directory.mkdir(exist_ok=True)
    state = {"FIRSTSEEN_STATE__DIRECTORY": str(deployment.directory / "state")}
    loaded = Settings.load(environ={**os.environ, **deployment.env, **state, **settings})
    ruleset, _ = RuleSet.compile(load_rules(None).rules, FieldTable.builtin())
    return build_app(loaded, ruleset, Metrics(), source_ids={})


@asynccontextmanager
async def running(app: App) -> AsyncIterator[App]:
    """Start the app, wait until its tables are recovered, stop it at the end."""
    starting = asyncio.create_task(app.start())
    try:
        await until(
            lambda: (app.tables.actives_ready and not app.rebalancing) or starting.done(),
            seconds=START_SECONDS,
        )
        if starting.done():
            await starting
        yield app
    finally:
        await app.stop()
        await starting


async def until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait for a condition while the loop goes on.

    Raises:
        TimeoutError: it did not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.02)


class HoldingProducer:
    """The app's own producer, whose acknowledgements for some topics wait for the test.

    The records are really written; only the news of it is kept back, as on a slow network.
    """

    def __init__(self, app: App, topics: Sequence[str]) -> None:
        self._producer = app.outbox._producer
        self._topics = topics
        self.held: list[tuple[asyncio.Future[Any], asyncio.Future[Any]]] = []
        app.outbox._producer = lambda: self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer(), name)

    async def send(self, topic: str, **record: Any) -> asyncio.Future[Any]:
        return self._hold(topic, await self._producer().send(topic, **record))

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        sent = await self._producer().send_batch(batch, topic, partition=partition)
        return self._hold(topic, sent)

    def _hold(self, topic: str, written: asyncio.Future[Any]) -> asyncio.Future[Any]:
        if topic not in self._topics:
            return written
        told = asyncio.get_running_loop().create_future()
        self.held.append((written, told))
        return told

    async def release(self) -> None:
        """Let every acknowledgement through, and those that are still to come."""
        self._topics = ()
        for written, told in self.held:
            told.set_result(await written)
        self.held.clear()

    async def fail(self, error: Exception) -> None:
        """Let every delivery fail; there is at least one, which may linger still."""
        await until(lambda: bool(self.held))
        for written, told in self.held:
            await written
            told.set_exception(error)
        self.held.clear()
