"""A coroutine begun at once goes on as if it had been awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from pipeline.stream.transport.eager import Begun


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 10.0))

    return run


@in_a_loop
async def test_what_need_not_wait_is_done_at_once() -> None:
    async def work() -> int:
        async with asyncio.Lock():
            return 7

    begun = Begun(work())

    assert begun.is_done
    assert begun.result == 7


@in_a_loop
async def test_what_it_raises_at_once_is_raised() -> None:
    async def work() -> None:
        raise ValueError("at once")

    with pytest.raises(ValueError, match="at once"):
        Begun(work())


@in_a_loop
async def test_what_waits_goes_on_where_its_rest_is_run() -> None:
    event = asyncio.Event()

    async def work() -> list[str]:
        done = ["begun"]
        await event.wait()
        await asyncio.sleep(0)
        done.append("ended")
        return done

    begun = Begun(work())
    rest = asyncio.create_task(begun.rest())
    await asyncio.sleep(0)
    assert not begun.is_done
    assert not rest.done()
    event.set()

    assert await asyncio.wait_for(rest, 5.0) == ["begun", "ended"]


@in_a_loop
async def test_what_is_raised_while_it_waits_goes_in_and_comes_out() -> None:
    async def broken() -> None:
        raise ValueError("later")

    async def work() -> str:
        try:
            await asyncio.ensure_future(broken())
        except ValueError as error:
            return str(error)
        return "nothing"

    assert await Begun(work()).rest() == "later"


@in_a_loop
async def test_a_rest_that_is_cancelled_cancels_the_work() -> None:
    told: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    rest = asyncio.create_task(Begun(work()).rest())
    await asyncio.sleep(0)
    rest.cancel()

    with pytest.raises(asyncio.CancelledError):
        await rest
    assert told == ["cancelled"]
