"""Records that reach an agent together, as one Faust event.

Faust spends a tenth of a millisecond on each event. So the fetcher puts what it read from a
partition into *bundles*: Faust carries only the first record of each, and the agent takes the whole
bundle from the `BundleBuffer`. For the offsets a bundle is one delivered record: nothing behind its
first offset is committed until the bundle is acknowledged.

What was fetched of a topic is handed over at once: the message of the first bundle carries those of
the `others` (`carried`), and the agent handles them together. Faust waits for the first one only,
so the agent says which ones it has begun.

Records of a changelog go in bundles as well. There Faust carries the last record of each, since it
compares offsets to find out whether a table is up to date, and the record carries the bundle: Faust
drops what it has queued at a rebalance without a word, and with it the bundle must be gone.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import msgspec

from pipeline.record import Headers, Position

MAX_BUNDLE_RECORDS = 500
MAX_BUNDLE_BYTES = 4 << 20
MAX_BUNDLE_SECONDS = 0.1
"""A bundle is closed after so long, even if it is empty: heartbeats wait meanwhile."""


class FetchedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as it was fetched, with what Faust asks of aiokafka's ``ConsumerRecord``.

    That one is a frozen dataclass of eleven fields: it takes longer to make than the record takes
    to read.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    timestamp_type: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers

    checksum: ClassVar[None] = None
    records: ClassVar[int] = 1
    """As an item of a bundle it stands for itself."""

    @property
    def size(self) -> int:
        """How many bytes of it wait in memory."""
        return len(self.key or b"") + len(self.value or b"")

    @property
    def serialized_key_size(self) -> int:
        return -1 if self.key is None else len(self.key)

    @property
    def serialized_value_size(self) -> int:
        return -1 if self.value is None else len(self.value)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Bundle:
    """Consecutive records of one partition, without those that the filter dropped.

    Attributes:
        items: what the reader made of the records, in order of offsets.
        size: bytes of their values, for the bound on what waits in memory.
        records: how many records they stand for.
    """

    items: tuple[Any, ...]
    size: int
    records: int


class Delivered(NamedTuple):
    """A bundle as an agent gets it.

    Attributes:
        message: what Faust carries for it; acknowledging it acknowledges the bundle.
        items: what the fetcher made of its records, in order of offsets.
    """

    message: Any
    items: Sequence[Any]


def carried(messages: Iterable[Any], is_bundled: Callable[[str], bool]) -> list[Any]:
    """Return the messages that Faust hands over, which carry the others.

    Args:
        messages: what was fetched, in order.
        is_bundled: whether records of a topic reach their agent in bundles. Of such a topic the
            first message is handed over, with a list of the `others`; of another one each.
    """
    handed_over = []
    firsts: dict[str, Any] = {}
    for message in messages:
        if is_bundled(message.topic):
            first = firsts.setdefault(message.topic, message)
            if first is not message:
                first.others.append(message)
                continue
            message.others = []
        handed_over.append(message)
    return handed_over


class BundleBuffer:
    """Bundles between the fetcher, in the consumer's thread, and the agents.

    Args:
        max_bytes: when this much of a topic waits, reading it should pause (`is_full`). Each topic
            has this room to itself: a stage that is behind must not keep the next one from reading.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._bundles: dict[Position, Bundle] = {}
        self._bytes: Counter[str] = Counter()
        self._freed: deque[tuple[str, int]] = deque()

    def is_full(self, topic: str) -> bool:
        self._count_freed()
        return self._bytes[topic] >= self._max_bytes

    def count(self, topic: str, bundle: Bundle) -> None:
        """Count a bundle that is kept elsewhere among what waits, as long as it exists."""
        with self._lock:
            self._bytes[topic] += bundle.size
        # A finalizer runs wherever the last reference goes, be it inside of a lock.
        weakref.finalize(bundle, self._freed.append, (topic, bundle.size)).atexit = False

    def _count_freed(self) -> None:
        with self._lock:
            while self._freed:
                topic, size = self._freed.popleft()
                self._bytes[topic] -= size

    def put(self, position: Position, bundle: Bundle) -> None:
        """Add the bundle whose first record has this position."""
        with self._lock:
            self._remove(position)
            self._bundles[position] = bundle
            self._bytes[position.topic] += bundle.size

    def take(self, position: Position) -> Bundle | None:
        """Remove and return a bundle; None if it was forgotten since."""
        with self._lock:
            return self._remove(position)

    def portions(self, messages: Iterable[Any]) -> Iterator[list[Delivered]]:
        """Take the bundles of messages, and yield several at once while they are small.

        A bundle is taken when its portion is asked for. One that is gone by then is left out: its
        partition was let go, or sought anew, and it will be read again.
        """
        portion: list[Delivered] = []
        records = size = 0
        for message in messages:
            bundle = self.take(Position(message.topic, message.partition, message.offset))
            if bundle is None:
                continue
            portion.append(Delivered(message, bundle.items))
            records += bundle.records
            size += bundle.size
            if records >= MAX_BUNDLE_RECORDS or size >= MAX_BUNDLE_BYTES:
                yield portion
                portion, records, size = [], 0, 0
        if portion:
            yield portion

    def forget(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Drop the bundles of partitions that are let go, or will be read again."""
        gone = set(partitions)
        with self._lock:
            for position in list(self._bundles):
                if (position.topic, position.partition) in gone:
                    self._remove(position)

    def forget_from(self, start: Position) -> None:
        """Drop the bundles of a partition from an offset on: nobody was told of them."""
        with self._lock:
            for position in list(self._bundles):
                same = (position.topic, position.partition) == (start.topic, start.partition)
                if same and position.offset >= start.offset:
                    self._remove(position)

    def _remove(self, position: Position) -> Bundle | None:
        bundle = self._bundles.pop(position, None)
        if bundle is not None:
            self._bytes[position.topic] -= bundle.size
        return bundle
