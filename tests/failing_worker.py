"""`firstseen worker`, but it fails on purpose, and notes every record that it handles.

    python -m tests.failing_worker worker

The product knows nothing of this: methods of the stages are wrapped before the command runs.

    TEST_JOURNAL         file for a line "topic partition offset bundle" for each record that a
                         stage begins with; `bundle` is the offset of the first one of its bundle
    TEST_REVOCATIONS     file for a line at each revocation: how many bundles wait for their agents
    TEST_FAILPOINT       a name of `KILLS`, `RAISES` or `RAISES_BELOW`: where to fail
    TEST_FAILPOINT_ARM   file whose existence arms it; from then on nothing is committed either
    TEST_BUNDLE_RECORDS  largest number of records in a bundle, and in bundles handled together
    TEST_BUNDLE_DELAY    seconds that each stage waits before each bundle
    TEST_BUNDLE_BLOCKED  file that each stage waits before each bundle to be gone
    TEST_DELAYED_STAGE   a name of `STAGES`: the only one that waits
    TEST_ROWS_HELD       file; while it is there, rows of the quota do not leave for their changelog.
                         A file beside it, `held_rows`, says that some are held
    TEST_WAITING         file for a line "topic bytes" each time that records begin to wait for
                         their stage: how many bytes of this topic wait then
    TEST_STALL_SECONDS   after how long without a commit a worker is not ready; it gives up after
                         twice as long, and takes brokers for gone after as long
    TEST_MISSING_SECONDS after how long a partition that no commit finds is gone for good
    TEST_CLOSE           file without which a worker that stops does not close its tables; it may
                         take a minute to stop then
    TEST_DISK            if it is "full": nothing that a changelog holds can be written
    TEST_TAKE_OVER       if it is "never ends": a response that was fetched is never taken over
    TEST_ACKNOWLEDGE     if it is "nothing": no record is ever done
    TEST_HOLD            file that a worker makes before it holds a rule; it goes on when that is gone
    TEST_LOOK_SECONDS    how often a worker looks for backfills that somebody has left
    TEST_SOURCE_SECONDS  how often a worker looks whether a topic was created anew
    TEST_BACKFILL_RATE   how many records a second a backfill reads; it saves where it is each
                         half second then
    TEST_BACKFILL_DIE    "before N" or "after N": die there, at the N-th time that a backfill saves
                         where it is; before it does, once the stages have had two seconds for what
                         it has sent
    TEST_SEEK_SECONDS    how long it takes to seek once the tables are recovered
    TEST_FETCH_SECONDS   how long a fetch waits for silent partitions while another one has no
                         room for what it would bring
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.producer.message_accumulator import MessageBatch

from pipeline.cli import main
from pipeline.embedded.process import wait_until
from pipeline.engine.first_seen import FirstSeen
from pipeline.engine.quota import Quota
from pipeline.engine.seen_again import SeenAgain
from pipeline.engine.verdicts import Verdicts
from pipeline.history import Sender, backfill
from pipeline.history.checkpoint import CheckpointStore
from pipeline.history.log_reader import LogReader
from pipeline.record import Record
from pipeline.stream import app as stream_app
from pipeline.stream import backfills, health, source_watch, worker
from pipeline.stream.first_seen import FirstSeenAgent
from pipeline.stream.judging import Judge, Judged
from pipeline.stream.match import MatchAgent
from pipeline.stream.outbox import Outbox
from pipeline.stream.quota import QuotaAgent
from pipeline.stream.store import Store
from pipeline.stream.tables import StateTable
from pipeline.stream.transport import (
    BundleBuffer,
    Consumer,
    Delivered,
    bundled_records,
    bundles,
    filtered_records,
    membership,
)
from pipeline.stream.transport.consumer_thread import ConsumerThread
from pipeline.stream.transport.fetcher import FilteringFetcher

OBSERVATIONS, NEW_TERMS, ALERTS = "-observations", "-new_terms", "-alerts"
FIRST_SEEN_CHANGELOG, QUOTA_CHANGELOG = "-first-seen-changelog", "-quota-changelog"

FAILING = "tests.failing_worker"
"""This module, for `Deployment.start_worker`."""

STAGES: dict[str, type] = {
    "match": MatchAgent,
    "first seen": FirstSeenAgent,
    "quota": QuotaAgent,
}


class Failpoint:
    """A place in the code, and when to fail there."""

    def __init__(self, hit: int, arm: Path) -> None:
        self._left = hit
        self._arm = arm

    @property
    def armed(self) -> bool:
        return self._arm.exists()

    def reached(self, passages: int = 1) -> bool:
        """Count passages; whether one of them is the one to fail at."""
        if not self.armed:
            return False
        before, self._left = self._left, self._left - passages
        return before > 0 >= self._left


def die() -> NoReturn:
    """End as a pulled plug does: no destructor, no flush, no goodbye to the group."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


Install = Callable[[Failpoint], None]


@dataclass(frozen=True)
class Kill:
    """A gap to die in.

    Attributes:
        install: wraps what leads to the gap.
        hit: at which passage to die, counted from when it was armed.
        held: once armed, this method waits for ever: nothing gets further than the gap, so that
            what the dead process has told is known.
        split: every produced record is a batch of its own.
    """

    install: Install
    hit: int
    held: tuple[type, str] | None = None
    split: bool = False


# -- where to die


def _before_item(cls: type, name: str, act: Callable[[], NoReturn] = die) -> Install:
    """Die before a record in the middle of a bundle is judged; others of the bundle have been."""

    def install(point: Failpoint) -> None:
        original = getattr(cls, name)

        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            if point.reached():
                act()
            return original(self, *args, **kwargs)

        setattr(cls, name, wrapped)
        if cls is FirstSeen:
            _count_seen_again(point)

    return install


def _count_seen_again(point: Failpoint) -> None:
    """Count the sightings that code which is not Python has observed; nothing fails there."""
    original = SeenAgain.observe

    def wrapped(self: SeenAgain, *args: Any) -> int:
        count = original(self, *args)
        assert not point.reached(count)
        return count

    SeenAgain.observe = wrapped


def _before_sending(topic: str) -> Install:
    """Die before a bundle's records for a topic are sent; all that was sent is acknowledged."""

    def install(point: Failpoint) -> None:
        original = Outbox.send_to

        async def wrapped(
            self: Outbox, name: str, partition: int, records: Sequence[Any], *args: Any
        ) -> Any:
            if name.endswith(topic) and records and point.reached():
                await self.settle(30.0)
                die()
            return await original(self, name, partition, records, *args)

        Outbox.send_to = wrapped

    return install


def _after_sending(topic: str, *, when_acknowledged: bool) -> Install:
    """Die when a bundle's records for a topic were handed to the producer, or acknowledged."""

    def install(point: Failpoint) -> None:
        original = Outbox.send_to

        async def wrapped(
            self: Outbox, name: str, partition: int, records: Sequence[Any], *args: Any
        ) -> Any:
            acknowledged = await original(self, name, partition, records, *args)
            if name.endswith(topic) and records and point.reached():
                if when_acknowledged:
                    await acknowledged
                die()
            return acknowledged

        Outbox.send_to = wrapped

    return install


def _between_batches(topic: str) -> Install:
    """Die when some batches of a bundle are acknowledged and the next is not sent."""

    def install(point: Failpoint) -> None:
        original = Outbox._send_batch

        async def wrapped(self: Outbox, queue: Any) -> None:
            if queue.topic.endswith(topic) and point.reached():
                others = [other for other in self._queues.values() if other is not queue]
                while any(  # noqa: ASYNC110 - nothing tells of it
                    other.on_its_way for other in others if other.topic == queue.topic
                ):
                    await asyncio.sleep(0.01)
                die()
            await original(self, queue)

        Outbox._send_batch = wrapped

    return install


_HOLD_FIRST_SEEN = (FirstSeenAgent, "handle")
_HOLD_QUOTA = (QuotaAgent, "handle")
_HOLD_OUTPUTS = (QuotaAgent, "_send")

# Of `tests.integration.test_faults.chunk`, in bundles of three: the second bundle of a stage is
# the one that is cut, and the first has gone as far as it could.
KILLS: dict[str, Kill] = {
    "some events of a bundle matched": Kill(
        _before_item(MatchAgent, "_take"), hit=5, held=_HOLD_FIRST_SEEN
    ),
    "observations sent, not acknowledged": Kill(
        _after_sending(OBSERVATIONS, when_acknowledged=False), hit=2, held=_HOLD_FIRST_SEEN
    ),
    "some observations of a bundle acknowledged": Kill(
        _between_batches(OBSERVATIONS), hit=5, held=_HOLD_FIRST_SEEN, split=True
    ),
    "observations acknowledged, not committed": Kill(
        _after_sending(OBSERVATIONS, when_acknowledged=True), hit=2, held=_HOLD_FIRST_SEEN
    ),
    "some observations of a bundle judged": Kill(
        _before_item(FirstSeen, "observe"), hit=5, held=_HOLD_QUOTA
    ),
    "rows written, not in the changelog": Kill(
        _before_sending(FIRST_SEEN_CHANGELOG), hit=2, held=_HOLD_QUOTA
    ),
    "some rows of a bundle in the changelog": Kill(
        _between_batches(FIRST_SEEN_CHANGELOG), hit=4, held=_HOLD_QUOTA, split=True
    ),
    "rows in the changelog, new terms not sent": Kill(
        _before_sending(NEW_TERMS), hit=2, held=_HOLD_QUOTA
    ),
    "new terms sent, not acknowledged": Kill(
        _after_sending(NEW_TERMS, when_acknowledged=False), hit=2, held=_HOLD_QUOTA
    ),
    "some new terms of a bundle acknowledged": Kill(
        _between_batches(NEW_TERMS), hit=4, held=_HOLD_QUOTA, split=True
    ),
    "new terms acknowledged, not committed": Kill(
        _after_sending(NEW_TERMS, when_acknowledged=True), hit=2, held=_HOLD_QUOTA
    ),
    "some new terms of a bundle decided": Kill(
        _before_item(Quota, "admit"), hit=2, held=_HOLD_OUTPUTS
    ),
    "quota rows written, not in the changelog": Kill(
        _before_sending(QUOTA_CHANGELOG), hit=2, held=_HOLD_OUTPUTS
    ),
    "some quota rows of a bundle in the changelog": Kill(
        # After two id rows at most; the window row is the last of its bundle.
        _between_batches(QUOTA_CHANGELOG),
        hit=3,
        held=_HOLD_OUTPUTS,
        split=True,
    ),
    "decisions in the changelog, alerts not sent": Kill(_before_sending(ALERTS), hit=1),
    "alerts sent, not acknowledged": Kill(_after_sending(ALERTS, when_acknowledged=False), hit=2),
    "some alerts of a bundle acknowledged": Kill(_between_batches(ALERTS), hit=2, split=True),
    "alerts acknowledged, not committed": Kill(
        _after_sending(ALERTS, when_acknowledged=True), hit=2
    ),
}

MAY_REPEAT = frozenset(
    {
        "alerts sent, not acknowledged",
        "some alerts of a bundle acknowledged",
        "alerts acknowledged, not committed",
    }
)
"""Where an alert may be in the topic while its record is not committed: told again, then."""


# -- where to raise


def _raise() -> NoReturn:
    """Raise what nobody has thought of."""
    raise ZeroDivisionError("on purpose")


RAISED_AT = 4
"""The how-manyth record of a bundle raises."""

RAISES: dict[str, Install] = {
    "match raises": _before_item(MatchAgent, "_take", _raise),
    "first seen raises": _before_item(FirstSeen, "observe", _raise),
    "quota raises": _before_item(Quota, "admit", _raise),
}
"""In a stage."""


def _asking_for_metadata_raises(point: Failpoint) -> None:
    # They are asked for each second instead of every few minutes.
    AIOKafkaClient._metadata_max_age_ms = property(lambda _: 1000, lambda *_: None)
    _before_item(AIOKafkaClient, "_metadata_update", _raise)(point)


RAISES_BELOW: dict[str, Install] = {
    "fetch raises": _before_item(ConsumerThread, "_fetch_records", _raise),
    "handing over raises": _before_item(Consumer, "mark_in_flight", _raise),
    "commit raises": _before_item(Consumer, "_commit_offsets", _raise),
    "taking over a response raises": _before_item(FilteringFetcher, "_take_over", _raise),
    "heartbeat raises": _before_item(GroupCoordinator, "_do_heartbeat", _raise),
    "coordination raises": _before_item(GroupCoordinator, "ensure_coordinator_known", _raise),
    "building a batch raises": _before_item(MessageBatch, "get_data_buffer", _raise),
    "asking for metadata raises": _asking_for_metadata_raises,
}
"""Below the stages, in what Faust runs: at the first passage."""


# -- what else is wrapped


def _commit_nothing_when_armed(point: Failpoint) -> None:
    original = Consumer._commit_offsets

    async def wrapped(self: Consumer, *args: Any, **kwargs: Any) -> bool:
        return False if point.armed else await original(self, *args, **kwargs)

    Consumer._commit_offsets = wrapped


def _hold_when_armed(point: Failpoint, cls: type, name: str) -> None:
    original = getattr(cls, name)

    async def wrapped(self: Any, *args: Any) -> Any:
        if point.armed:
            await asyncio.Future()
        return await original(self, *args)

    setattr(cls, name, wrapped)


def _configure_app(**faust_settings: Any) -> None:
    original = stream_app._faust_settings
    stream_app._faust_settings = lambda settings: original(settings) | faust_settings


def _place(item: Any) -> tuple[str, int, int]:
    """Return topic, partition and offset of what a stage is given: see `Agents._deliveries`."""
    place = item.position if isinstance(item, Record | Judged) else item
    return place.topic, place.partition, place.offset


def _before_each_bundle(
    act: Callable[[Any, Sequence[Any]], Any], stages: Iterable[str] = STAGES
) -> None:
    """Do something before a stage handles a bundle."""

    def wrap(cls: type) -> None:
        original = cls.handle

        async def wrapped(self: Any, delivered: Sequence[Delivered]) -> None:
            for bundle in delivered:
                await act(bundle.message, bundle.items)
            await original(self, delivered)

        cls.handle = wrapped

    for stage in stages:
        wrap(STAGES[stage])


def _keep_journal(file: Path) -> None:
    """Note each record when a stage begins with it, and each changelog record that is read."""
    journal = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    offsets: dict[tuple[str, int, int], list[int]] = {}

    def note(bundle: int, items: Sequence[Any]) -> None:
        # One item may stand for several records.
        lines = (
            f"{topic} {partition} {offset} {bundle}\n"
            for topic, partition, first in map(_place, items)
            for offset in offsets.pop((topic, partition, first), [first])
        )
        os.write(journal, "".join(lines).encode())

    told = Judge._from_known_verdicts

    def noted(self: Judge, known: Any, tp: Any, records: list[Any]) -> Judged:
        judged = told(self, known, tp, records)
        offsets[_place(judged)] = [record.offset for record in records]
        return judged

    Judge._from_known_verdicts = noted

    async def note_bundle(message: Any, items: Sequence[Any]) -> None:
        note(message.offset, items)

    _before_each_bundle(note_bundle)
    read = StateTable.on_changelog_event

    async def wrapped(self: StateTable, event: Any) -> None:
        note(event.message.offset, event.message.bundle.items)
        await read(self, event)

    StateTable.on_changelog_event = wrapped


def _note_revocations(file: Path) -> None:
    original = Consumer.on_partitions_revoked

    async def wrapped(self: Consumer, revoked: Any) -> None:
        with file.open("a") as lines:
            lines.write(f"{len(self.transport.reading.bundle_buffer._bundles)}\n")
        await original(self, revoked)

    Consumer.on_partitions_revoked = wrapped


def _delay(seconds: float) -> None:
    async def wait(_message: Any, _items: Sequence[Any]) -> None:
        await asyncio.sleep(seconds)

    _before_each_bundle(wait, _delayed_stages())


def _block(file: Path) -> None:
    async def wait(_message: Any, _items: Sequence[Any]) -> None:
        assert await asyncio.to_thread(wait_until, lambda: not file.exists(), seconds=120.0)

    _before_each_bundle(wait, _delayed_stages())


def _delayed_stages() -> Iterable[str]:
    stage = os.environ.get("TEST_DELAYED_STAGE")
    return STAGES if stage is None else (stage,)


def held_rows(file: Path) -> Path:
    """Return the file that is there since rows have been held by `TEST_ROWS_HELD`."""
    return file.with_name(f"{file.name}-rows")


def _hold_rows(file: Path) -> None:
    original = Outbox._send_batch

    async def wrapped(self: Outbox, queue: Any) -> None:
        if queue.topic.endswith(QUOTA_CHANGELOG):
            while file.exists():  # noqa: ASYNC240 - a thread would not be frozen with it
                held_rows(file).touch()
                await asyncio.sleep(0.01)
        await original(self, queue)

    Outbox._send_batch = wrapped


def _note_waiting(file: Path) -> None:
    original = BundleBuffer.put

    def wrapped(self: BundleBuffer, position: Any, bundle: Any) -> None:
        original(self, position, bundle)
        with file.open("a") as lines:
            lines.write(f"{position.topic} {self._bytes[position.topic]}\n")

    BundleBuffer.put = wrapped


def _prolong_fetches(seconds: float) -> None:
    original = ConsumerThread._fetch_records

    async def wrapped(self: ConsumerThread, consumer: Any, active: Any, **options: Any) -> Any:
        if any(self.transport.reading.bundle_buffer.is_full(tp.topic) for tp in active):
            options["timeout"] = seconds
        return await original(self, consumer, active, **options)

    ConsumerThread._fetch_records = wrapped


def _delay_seeks(seconds: float) -> None:
    original = Consumer.perform_seek

    async def wrapped(self: Consumer) -> None:
        await asyncio.sleep(seconds)
        await original(self)

    Consumer.perform_seek = wrapped


def _take_over_for_ever() -> None:
    def hang(*_: Any) -> None:
        time.sleep(3_600.0)

    FilteringFetcher._take_over = hang


def _be_impatient(seconds: float) -> None:
    health.STALL_SECONDS = health.ANSWER_SECONDS = seconds
    health.GIVE_UP_SECONDS = 2 * seconds


def _miss_no_longer_than(seconds: float) -> None:
    membership.MISSING_SECONDS = seconds


def _close_tables_after(file: Path) -> None:
    original = StateTable.stop

    def wait_for_file() -> None:
        assert wait_until(file.exists, seconds=60.0)

    async def wrapped(self: StateTable) -> None:
        await asyncio.to_thread(wait_for_file)
        await original(self)

    StateTable.stop = wrapped
    worker._FINISH_SECONDS, worker._END_SECONDS = 60.0, 90.0


def _fill_disk() -> None:
    def wrapped(self: Store, *_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    Store.set_persisted_offset = wrapped


def _acknowledge_nothing() -> None:
    def wrapped(self: Consumer, message: Any) -> None:
        """Forget that the record is done."""

    Consumer.acknowledge = wrapped


def _tell_records_apart() -> None:
    """Make an item of each record, also of those that are known to end alike."""
    original = Verdicts.judge

    def wrapped(self: Verdicts, records: list[Any], start: int, *args: Any) -> Any:
        return original(self, records[: start + 1], start, *args)

    Verdicts.judge = wrapped


def _install_failpoint(name: str, arm: Path) -> None:
    _tell_records_apart()
    if name in RAISES:
        RAISES[name](Failpoint(RAISED_AT, arm))
        return
    if name in RAISES_BELOW:
        RAISES_BELOW[name](Failpoint(1, arm))
        return
    kill = KILLS[name]
    point = Failpoint(kill.hit, arm)
    kill.install(point)
    _commit_nothing_when_armed(point)
    if kill.held is not None:
        _hold_when_armed(point, *kill.held)
    if kill.split:
        _configure_app(producer_max_batch_size=1)


def _limit_bundles(records: str) -> None:
    for module in (bundles, bundled_records, filtered_records):
        module.MAX_BUNDLE_RECORDS = int(records)


def _hold_when_told(file: Path) -> None:
    original = Sender.hold

    def wrapped(self: Sender, *args: Any) -> None:
        file.touch()
        assert wait_until(lambda: not file.exists(), seconds=60.0)
        original(self, *args)

    Sender.hold = wrapped


def _look_often(seconds: float) -> None:
    backfills._LOOK_SECONDS = seconds


def _look_at_sources_often(seconds: float) -> None:
    source_watch.LOOK_SECONDS = seconds


def _slow_backfills(rate: float) -> None:
    original = LogReader.__init__

    def wrapped(self: LogReader, *args: Any, **options: Any) -> None:
        original(self, *args, **options | {"max_rate": rate})

    LogReader.__init__ = wrapped
    backfill._SAVE_SECONDS = 0.5


def _die_at_a_checkpoint(where: str) -> None:
    moment, _, number = where.partition(" ")
    original = CheckpointStore.save
    left = int(number)

    def wrapped(self: CheckpointStore, checkpoint: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0 and moment == "before":
            time.sleep(2.0)
            die()
        original(self, checkpoint)
        if left == 0:
            die()

    CheckpointStore.save = wrapped


# In this order: what is wrapped last comes first.
WRAPPERS: dict[str, Callable[[str], None]] = {
    "TEST_FAILPOINT": lambda name: _install_failpoint(name, Path(os.environ["TEST_FAILPOINT_ARM"])),
    "TEST_BUNDLE_RECORDS": _limit_bundles,
    "TEST_BUNDLE_DELAY": lambda seconds: _delay(float(seconds)),
    "TEST_BUNDLE_BLOCKED": lambda file: _block(Path(file)),
    "TEST_ROWS_HELD": lambda file: _hold_rows(Path(file)),
    "TEST_WAITING": lambda file: _note_waiting(Path(file)),
    "TEST_TAKE_OVER": lambda _: _take_over_for_ever(),
    "TEST_STALL_SECONDS": lambda seconds: _be_impatient(float(seconds)),
    "TEST_MISSING_SECONDS": lambda seconds: _miss_no_longer_than(float(seconds)),
    "TEST_CLOSE": lambda file: _close_tables_after(Path(file)),
    "TEST_DISK": lambda _full: _fill_disk(),
    "TEST_ACKNOWLEDGE": lambda _nothing: _acknowledge_nothing(),
    "TEST_FETCH_SECONDS": lambda seconds: _prolong_fetches(float(seconds)),
    "TEST_SEEK_SECONDS": lambda seconds: _delay_seeks(float(seconds)),
    "TEST_HOLD": lambda file: _hold_when_told(Path(file)),
    "TEST_LOOK_SECONDS": lambda seconds: _look_often(float(seconds)),
    "TEST_SOURCE_SECONDS": lambda seconds: _look_at_sources_often(float(seconds)),
    "TEST_BACKFILL_RATE": lambda rate: _slow_backfills(float(rate)),
    "TEST_BACKFILL_DIE": _die_at_a_checkpoint,
    "TEST_JOURNAL": lambda file: _keep_journal(Path(file)),
    "TEST_REVOCATIONS": lambda file: _note_revocations(Path(file)),
}


def install() -> None:
    """Wrap what the environment asks for."""
    for name, wrap in WRAPPERS.items():
        if text := os.environ.get(name):
            wrap(text)


if __name__ == "__main__":
    install()
    main()
