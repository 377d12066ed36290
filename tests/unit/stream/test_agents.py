"""What becomes of a bundle that is not done in time."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import StallError
from pipeline.stream.agents import Agents


def test_records_that_find_no_room_for_long_stop_the_worker_and_are_named() -> None:
    agents = Agents.__new__(Agents)
    agents._deadline = 0.01
    agents._app = SimpleNamespace(
        consumer=SimpleNamespace(mark_in_flight=lambda _: None, may_begin=lambda _: True),
        reading=SimpleNamespace(bundles=lambda _: True),
        outbox=["an output"] * 3,
    )
    message = SimpleNamespace(topic="events", partition=4, offset=17, others=())
    agents._bundle_buffer = SimpleNamespace(portions=lambda _: [[SimpleNamespace(message=message)]])

    async def no_room(_: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(StallError) as stalled:
        asyncio.run(agents._handle(message, no_room))

    for told in ("events, partition 4, from offset 17", "stream.event_deadline", "3 outputs"):
        assert told in str(stalled.value)
