"""`firstseen worker`, but it fails on purpose, and notes every record that it handles.

    python -m tests.failing_worker worker

The product knows nothing of this: methods of the stages are wrapped before the command runs.

    TEST_JOURNAL        file for a line "topic partition offset" for each record handled
    TEST_FAILPOINT      a name of `FAILPOINTS`: where to fail
    TEST_FAILPOINT_HIT  at the how-manyth time, from 1
    TEST_FAILPOINT_ARM  file whose existence arms it; from then on nothing is committed either
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pipeline.cli import main
from pipeline.stream.first_seen import FirstSeenAgent
from pipeline.stream.match import MatchAgent
from pipeline.stream.outbox import Outbox
from pipeline.stream.quota import QuotaAgent
from pipeline.stream.tables import PartitionTable, StateTable
from pipeline.stream.transport import Consumer

_FIRST_SEEN, _QUOTA = "first-seen", "quota"


class Failpoint:
    """A place in the code, and when to fail there."""

    def __init__(self, hit: int, arm: Path) -> None:
        self._left = hit
        self._arm = arm

    @property
    def armed(self) -> bool:
        return self._arm.exists()

    def reached(self) -> bool:
        """Count one passage; whether this is the one to fail at."""
        if not self.armed:
            return False
        self._left -= 1
        return self._left == 0


def die() -> NoReturn:
    """End as a pulled plug does: no destructor, no flush, no goodbye to the group."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


async def acknowledged(agent: Any) -> None:
    """Wait until everything that was sent is acknowledged."""
    await agent._app.outbox.settle(30.0)


def _kill_after(cls: type, name: str, *, when_acknowledged: bool = False) -> Callable[..., None]:
    """Die after a method of an agent, or once all it has sent is acknowledged."""

    def install(point: Failpoint) -> None:
        original = getattr(cls, name)

        async def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = await original(self, *args, **kwargs)
            if point.reached():
                if when_acknowledged:
                    await acknowledged(self)
                die()
            return result

        setattr(cls, name, wrapped)

    return install


def _kill_before_output(point: Failpoint) -> None:
    original = QuotaAgent._send

    async def wrapped(self: QuotaAgent, output: Any) -> None:
        if point.reached():
            die()
        await original(self, output)

    QuotaAgent._send = wrapped


def _kill_after_put(table: str, key_start: bytes) -> Callable[[Failpoint], None]:
    """Die when a row is in RocksDB and its changelog record is not even sent."""

    def install(point: Failpoint) -> None:
        original = PartitionTable.put

        def wrapped(self: PartitionTable, key: bytes, value: bytes) -> None:
            original(self, key, value)
            if self._table.name == table and key.startswith(key_start) and point.reached():
                die()

        PartitionTable.put = wrapped

    return install


def _kill_when_rows_are_acknowledged(point: Failpoint) -> None:
    """Die when the changelog has the rows of stage 2 and the new terms are still with us."""
    send, send_changes = Outbox.send, PartitionTable.send_changes

    async def kept_back(self: Outbox, topic: str, **record: Any) -> Any:
        if point.armed and topic.endswith("new_terms"):
            future = asyncio.get_running_loop().create_future()
            self._pending.add(future)
            return future
        return await send(self, topic, **record)

    async def wrapped(self: PartitionTable, outbox: Outbox) -> Any:
        futures = await send_changes(self, outbox)
        if self._table.name == _FIRST_SEEN and point.reached():
            await asyncio.gather(*futures)
            die()
        return futures

    Outbox.send, PartitionTable.send_changes = kept_back, wrapped


def _raise_in(cls: type) -> Callable[[Failpoint], None]:
    """Raise what nobody has thought of, before a record is handled."""

    def install(point: Failpoint) -> None:
        original = cls.handle

        async def wrapped(self: Any, message: Any, *items: Any) -> None:
            if point.reached():
                raise ZeroDivisionError("on purpose")
            await original(self, message, *items)

        cls.handle = wrapped

    return install


KILLS: dict[str, Callable[[Failpoint], None]] = {
    "observation sent, not acknowledged": _kill_after(MatchAgent, "_forward"),
    "observation acknowledged, not committed": _kill_after(
        MatchAgent, "_forward", when_acknowledged=True
    ),
    "row put, not in the changelog": _kill_after_put(_FIRST_SEEN, b""),
    "row in the changelog, new term not sent": _kill_when_rows_are_acknowledged,
    "new term sent, not acknowledged": _kill_after(FirstSeenAgent, "_raise"),
    "new term acknowledged, not committed": _kill_after(
        FirstSeenAgent, "_raise", when_acknowledged=True
    ),
    "id row put, window row not": _kill_after_put(_QUOTA, b"i"),
    "quota rows put, not in the changelog": _kill_after_put(_QUOTA, b"w"),
    "decision in the changelog, alert not sent": _kill_before_output,
    "alert sent, not acknowledged": _kill_after(QuotaAgent, "_send"),
    "alert acknowledged, not committed": _kill_after(QuotaAgent, "_send", when_acknowledged=True),
}

MAY_REPEAT = frozenset({"alert sent, not acknowledged", "alert acknowledged, not committed"})
"""Where an alert may be in the topic while its record is not committed: told again, then."""

RAISES: dict[str, Callable[[Failpoint], None]] = {
    "match raises": _raise_in(MatchAgent),
    "first seen raises": _raise_in(FirstSeenAgent),
    "quota raises": _raise_in(QuotaAgent),
}

FAILPOINTS = KILLS | RAISES


def _commit_nothing_when_armed(point: Failpoint) -> None:
    original = Consumer._commit_offsets

    async def wrapped(self: Consumer, *args: Any, **kwargs: Any) -> bool:
        return False if point.armed else await original(self, *args, **kwargs)

    Consumer._commit_offsets = wrapped


def _keep_journal(file: Path) -> None:
    """Note each record when a stage begins with it, and each changelog record that is read."""
    journal = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(message: Any) -> None:
        os.write(journal, f"{message.topic} {message.partition} {message.offset}\n".encode())

    def noting(cls: type) -> None:
        original = cls.handle

        async def wrapped(self: Any, message: Any, *items: Any) -> None:
            note(message)
            await original(self, message, *items)

        cls.handle = wrapped

    for cls in (MatchAgent, FirstSeenAgent, QuotaAgent):
        noting(cls)
    read = StateTable.on_changelog_event

    async def wrapped(self: StateTable, event: Any) -> None:
        note(event.message)
        await read(self, event)

    StateTable.on_changelog_event = wrapped


def install() -> None:
    """Wrap what the environment asks for."""
    if name := os.environ.get("TEST_FAILPOINT"):
        hit = int(os.environ["TEST_FAILPOINT_HIT"])
        point = Failpoint(hit, Path(os.environ["TEST_FAILPOINT_ARM"]))
        FAILPOINTS[name](point)
        if name in KILLS:
            _commit_nothing_when_armed(point)
    if file := os.environ.get("TEST_JOURNAL"):
        _keep_journal(Path(file))


if __name__ == "__main__":
    install()
    main()
