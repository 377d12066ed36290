"""A coroutine begun at once, up to where it first has to wait: most never have to."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Begun:
    """A coroutine that has run to its first wait, or to its end.

    asyncio takes a task and several turns of its loop to find out that a coroutine had nothing to
    wait for.

    Args:
        work: the coroutine. What it raises before it waits is raised here.

    Attributes:
        is_done: whether it has ended already.
        result: what it returned then.
    """

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work
        self.is_done = False
        self.result: Any = None
        try:
            self._waits_for = work.send(None)
        except StopIteration as end:
            self.is_done = True
            self.result = end.value

    async def rest(self) -> Any:
        """Go on until the end, and return its result. Where this runs, be it a task, it goes on."""
        return await _go_on(self._work, self._waits_for)


@coroutine
def _go_on(work: Coroutine[Any, Any, Result], waits_for: Any) -> Generator[Any, Any, Result]:
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001 - as `await` does, all of it goes in
                waits_for = work.throw(error)
            else:
                waits_for = work.send(sent)
    except StopIteration as end:
        result: Result = end.value
        return result
