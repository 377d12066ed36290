"""TCP proxies between a worker and the brokers: the network of the tests.

Every worker reaches every broker through a proxy of its own (see `tests.chaos.cluster`), so that
the network of one worker can be cut, and all ways to one broker can be slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any

_CHUNK = 1 << 16


class Proxy:
    """Forwards connections to one port of 127.0.0.1; its methods may be called from any thread.

    Attributes:
        port: where it listens.
        target: the port it forwards to.
    """

    def __init__(self, port: int, target: int, loop: asyncio.AbstractEventLoop) -> None:
        self.port = port
        self.target = target
        self._loop = loop
        self._delay = 0.0
        self._refusing = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._abort_all()

    def hold(self) -> None:
        """Let nothing through: what was sent arrives later, as after packets that got lost."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def refuse(self) -> None:
        """Break every connection, and every one that is made from now on."""
        self._loop.call_soon_threadsafe(self._refuse)

    def slow(self, seconds: float) -> None:
        """Delay what the broker answers."""
        self._delay = seconds

    def heal(self) -> None:
        """Forward as before."""
        self._delay = 0.0
        self._refusing = False
        self._loop.call_soon_threadsafe(self._flowing.set)

    def _refuse(self) -> None:
        self._refusing = True
        self._abort_all()

    def _abort_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if not self._refusing:
                await self._forward(reader, writer)
        except OSError:
            pass  # either side went away, which both may do at any time
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers.add(to_broker)
        ways = [
            asyncio.create_task(self._copy(reader, to_broker, answers=False)),
            asyncio.create_task(self._copy(from_broker, writer, answers=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._writers.discard(to_broker)
            to_broker.transport.abort()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while data := await reader.read(_CHUNK):
            if answers and self._delay:
                await asyncio.sleep(self._delay)
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()


class Network:
    """All proxies of a cluster, on a thread of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()
        self._proxies: list[Proxy] = []

    def proxy(self, port: int, target: int) -> Proxy:
        """Return a new proxy that listens already.

        Raises:
            OSError: somebody else listens on the port.
        """
        proxy = Proxy(port, target, self._loop)
        self._run(proxy.start())
        self._proxies.append(proxy)
        return proxy

    def close(self) -> None:
        """Break every connection and end the thread."""
        for proxy in self._proxies:
            self._run(proxy.stop())
        self._run(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel_all(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*others, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10.0)
