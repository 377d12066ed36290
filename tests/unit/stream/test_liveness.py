"""What must go on below Faust: tasks of aiokafka, and the loop of another thread."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.stream.transport.liveness import Pulse, task_failure

TASKS = ("metadata", "fetching", "coordination", "metadata of the producer", "sending")


async def forever() -> None:
    await asyncio.Future()


async def end() -> None:
    """End as a task does that was told to stop."""


async def fail() -> None:
    raise ZeroDivisionError("on purpose")


def clients(tasks: dict[str, Any]) -> tuple[Any, Any]:
    consumer = SimpleNamespace(
        _client=SimpleNamespace(_sync_task=tasks["metadata"]),
        _fetcher=SimpleNamespace(_fetch_task=tasks["fetching"]),
        _coordinator=SimpleNamespace(_coordination_task=tasks["coordination"]),
    )
    producer = SimpleNamespace(
        client=SimpleNamespace(_sync_task=tasks["metadata of the producer"]),
        _sender=SimpleNamespace(sender_task=tasks["sending"]),
    )
    return consumer, producer


async def found(**others: Any) -> BaseException | None:
    """Return what is found where all tasks go on, but for others."""
    tasks = {name: asyncio.ensure_future(others.get(name, forever)()) for name in TASKS}
    await asyncio.sleep(0.01)
    try:
        return task_failure(*clients(tasks))
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.parametrize("name", TASKS)
def test_the_error_of_any_task_is_told(name: str) -> None:
    assert isinstance(asyncio.run(found(**{name: fail})), ZeroDivisionError)


def test_tasks_that_go_on_or_were_told_to_stop_are_no_error() -> None:
    assert asyncio.run(found()) is None
    assert asyncio.run(found(**dict.fromkeys(TASKS, end))) is None


def test_clients_that_have_not_started_are_no_error() -> None:
    consumer = SimpleNamespace(
        _client=SimpleNamespace(_sync_task=None), _fetcher=None, _coordinator=None
    )
    producer = SimpleNamespace(
        client=SimpleNamespace(_sync_task=None), _sender=SimpleNamespace(sender_task=None)
    )

    assert task_failure(None, None) is None
    assert task_failure(consumer, producer) is None


def test_a_loop_that_answers_was_never_asked_in_vain() -> None:
    async def ask() -> list[int]:
        pulse, asked = Pulse(), []
        for _ in range(3):
            asked.append(pulse.ping(asyncio.get_running_loop()))
            await asyncio.sleep(0)
        return asked

    assert asyncio.run(ask()) == [0, 0, 0]


def test_a_loop_that_does_not_answer_is_counted_until_it_does() -> None:
    loop, pulse = asyncio.new_event_loop(), Pulse()
    assert [pulse.ping(loop) for _ in range(3)] == [0, 1, 2]

    loop.run_until_complete(asyncio.sleep(0))

    assert pulse.ping(loop) == 0
    loop.close()
    assert [pulse.ping(loop) for _ in range(3)] == [0, 0, 0]
