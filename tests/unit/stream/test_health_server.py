"""The three pages over a socket, in front of guests who behave badly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from types import SimpleNamespace
from typing import ParamSpec

import pytest
from prometheus_client import CollectorRegistry

from pipeline.config.sections import WebSettings
from pipeline.errors import ConfigError
from pipeline.stream.health import Condition
from pipeline.stream.health_server import MAX_CONNECTIONS, HealthServer
from pipeline.telemetry.metrics import Metrics

P = ParamSpec("P")


def on_a_loop(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Run a test on an event loop of its own."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(**settings: object) -> AsyncIterator[HealthServer]:
    health = SimpleNamespace(
        alive=lambda: Condition(ok=True, reason="alive"),
        ready=lambda: Condition(ok=False, reason="draining"),
    )
    given = WebSettings(**{"port": 0, **settings})
    server = HealthServer(health, Metrics(CollectorRegistry()), given)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def connect(server: HealthServer, sent: bytes = b"") -> Connection:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def answer(server: HealthServer, request: bytes) -> bytes:
    """Return what a request gets: nothing where the server closes before it has all of it."""
    reader, writer = await connect(server)
    try:
        writer.write(request)
        await writer.drain()
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def get(page: str) -> bytes:
    return f"GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


@on_a_loop
async def test_the_pages_say_their_sentence_and_the_metrics():
    async with serving() as server:
        alive, ready = await answer(server, get("/healthz")), await answer(server, get("/readyz"))
        metrics = await answer(server, get("/metrics"))

    assert alive.startswith(b"HTTP/1.1 200")
    assert alive.endswith(b"alive\n")
    assert ready.startswith(b"HTTP/1.1 503")
    assert ready.endswith(b"draining\n")
    assert b"firstseen_build_info" in metrics


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 5_000_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /%0d%0aSet-Cookie:a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nabcde",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=["header", "path", "line breaks", "method", "parents", "TLS"],
)
@on_a_loop
async def test_no_other_request_gets_anything(request_bytes: bytes):
    async with serving() as server:
        refused = await answer(server, request_bytes)
        alive = await answer(server, get("/healthz"))

    status = refused.split(b"\r\n")[0]
    assert status == b"" or status.split()[1] in {b"400", b"404", b"405", b"431"}
    assert b"firstseen" not in refused
    assert b"Set-Cookie" not in refused
    assert alive.endswith(b"alive\n")


@on_a_loop
async def test_a_probe_gets_in_though_strangers_hold_connections():
    async with serving() as server:
        held = [
            await connect(server, b"GET /healthz HTTP/1.1\r\nHo")
            for _ in range(MAX_CONNECTIONS + 40)
        ]
        alive = await answer(server, get("/healthz"))
        first = await asyncio.wait_for(held[0][0].read(), 30)
        newest_reader, newest_writer = held[-1]
        newest_writer.write(b"st: x\r\nConnection: close\r\n\r\n")
        newest = await asyncio.wait_for(newest_reader.read(), 30)
        for _, writer in held:
            writer.close()

    assert alive.endswith(b"alive\n")
    assert first == b""  # closed: it was the oldest
    assert newest.endswith(b"alive\n")  # slow, and still served


@on_a_loop
async def test_an_address_that_is_taken_is_a_configuration_error():
    async with serving() as server:
        with pytest.raises(ConfigError, match="cannot listen"):
            async with serving(port=server.port):
                pass
