"""Decisions on their way out: in order, and never more bytes than allowed."""

from __future__ import annotations

import asyncio

from pipeline.engine.quota import Output
from pipeline.stream.pending_outputs import PendingOutputs, PendingQueue


def _release(name: str, size: int) -> PendingOutputs:
    output = Output("alerts", b"id", b"x" * size, "rule", summary=False, source_timestamp_ms=None)
    return PendingOutputs([], [output], name)


def test_releases_come_in_order() -> None:
    async def names() -> list[str]:
        releases = PendingQueue(1 << 20)
        for name in "abc":
            await releases.put(_release(name, 10))
        return [(await releases.get()).message for _ in range(3)]

    assert asyncio.run(names()) == ["a", "b", "c"]


def test_a_release_beyond_the_bound_waits_until_others_are_sent() -> None:
    async def scenario() -> list[bool]:
        releases = PendingQueue(100_000)
        await releases.put(_release("a", 60_000))
        second = asyncio.create_task(releases.put(_release("b", 60_000)))
        waits = []
        await asyncio.sleep(0)
        waits.append(second.done())
        first = await releases.get()  # taken, and still held: nothing has been sent yet
        await asyncio.sleep(0)
        waits.append(second.done())
        releases.sent(first)
        await second
        waits.append(second.done())
        return waits

    assert asyncio.run(scenario()) == [False, False, True]


def test_a_release_larger_than_the_bound_goes_alone() -> None:
    async def scenario() -> str:
        releases = PendingQueue(1_000)
        await asyncio.wait_for(releases.put(_release("large", 5_000)), 10)
        message: str = (await releases.get()).message
        return message

    assert asyncio.run(scenario()) == "large"
