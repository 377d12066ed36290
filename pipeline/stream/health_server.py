"""``/metrics``, ``/healthz`` and ``/readyz``: three pages that ignore their input."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from pipeline.config.sections import WebSettings
from pipeline.errors import ConfigError
from pipeline.stream.health import Condition, Health
from pipeline.telemetry.metrics import CONTENT_TYPE, Metrics

MAX_CONNECTIONS = 64
"""Maximum number of open connections; beyond it, the oldest are closed.

The worker needs its file descriptors for brokers and tables, and a probe must get through even if
strangers hold connections open.
"""


class HealthServer:
    """Serves the three pages on the worker's own event loop."""

    def __init__(self, health: Health, metrics: Metrics, settings: WebSettings) -> None:
        self._health = health
        self._metrics = metrics
        self._settings = settings
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self.port: int | None = None

    async def start(self) -> None:
        """Start to listen.

        Raises:
            ConfigError: the address is taken or does not belong to this host.
        """
        application = web.Application()
        application.router.add_get("/metrics", self._metrics_page)
        application.router.add_get("/healthz", self._page(self._health.alive))
        application.router.add_get("/readyz", self._page(self._health.ready))
        runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            self._server = await asyncio.get_running_loop().create_server(
                _bounded(runner.server), self._settings.host, self._settings.port
            )
        except OSError as exc:
            await runner.cleanup()
            raise ConfigError(
                f"cannot listen on {self._settings.host}:{self._settings.port}: {exc.strerror}; "
                f"set web.port to a free port, or to 0 for any"
            ) from exc
        self._runner = runner
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _metrics_page(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    @staticmethod
    def _page(
        judge: Callable[[], Condition],
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def page(_: web.Request) -> web.Response:
            condition = judge()
            return web.Response(text=condition.reason + "\n", status=200 if condition.ok else 503)

        return page


def _bounded(server: web.Server | None) -> Callable[[], asyncio.Protocol]:
    """Return a protocol factory that closes the oldest connections when there are too many."""
    if server is None:
        raise RuntimeError("the runner was not set up")

    def connect() -> asyncio.Protocol:
        # In the order in which they were opened. Connections that are closing are still listed.
        opened = [each for each in server.connections if not _is_closing(each)]
        for oldest in opened[: len(opened) - MAX_CONNECTIONS + 1]:
            oldest.force_close()
        return server()

    return connect


def _is_closing(connection: web.RequestHandler) -> bool:
    return connection.transport is None or connection.transport.is_closing()
