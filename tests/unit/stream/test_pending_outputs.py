"""Decisions on their way out: in order, and never more bytes than allowed."""

from __future__ import annotations

import asyncio

from pipeline.engine.quota import Output
from pipeline.stream.pending_outputs import PendingOutputs, PendingQueue


def _pending(name: str, size: int) -> PendingOutputs:
    output = Output("alerts", b"id", b"x" * size, "rule", summary=False, source_timestamp_ms=None)
    return PendingOutputs([], [output], name)


def test_outputs_leave_in_order() -> None:
    async def names() -> list[str]:
        queue = PendingQueue(1 << 20)
        for name in "abc":
            await queue.put(_pending(name, 10))
        return [(await queue.get()).message for _ in range(3)]

    assert asyncio.run(names()) == ["a", "b", "c"]


def test_outputs_beyond_the_bound_wait_until_others_are_sent() -> None:
    async def scenario() -> list[bool]:
        queue = PendingQueue(100_000)
        await queue.put(_pending("a", 60_000))
        second = asyncio.create_task(queue.put(_pending("b", 60_000)))
        waits = []
        await asyncio.sleep(0)
        waits.append(second.done())
        first = await queue.get()  # taken, and still held: nothing has been sent yet
        await asyncio.sleep(0)
        waits.append(second.done())
        queue.sent(first)
        await second
        waits.append(second.done())
        return waits

    assert asyncio.run(scenario()) == [False, False, True]


def test_outputs_larger_than_the_bound_go_alone() -> None:
    async def scenario() -> str:
        queue = PendingQueue(1_000)
        await asyncio.wait_for(queue.put(_pending("large", 5_000)), 10)
        message: str = (await queue.get()).message
        return message

    assert asyncio.run(scenario()) == "large"
