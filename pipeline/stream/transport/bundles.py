"""Records that reach an agent together, as one Faust event.

Faust spends a tenth of a millisecond on each event. So the fetcher puts what it read from a
partition into *bundles*. Faust carries only the first record of each bundle, and the agent takes
the whole bundle from the `BundleBuffer`. To the offset tracker, a bundle is one delivered record:
nothing past its first offset is committed until the bundle is acknowledged.

Everything that was fetched of a topic is handed over at once: the message of the first bundle
carries the messages of the `others` (`carriers`), and the agent handles them together. Faust waits
only for the first message, so the agent reports which ones it has begun.

Changelog records are bundled as well, with two differences:

* Faust carries the last record of each bundle, because it compares offsets to find out whether a
  table is up to date.
* That record carries the bundle itself. At a rebalance, Faust silently drops what it has queued,
  and the bundle must be gone with it.
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
"""A bundle is closed after this time even if it is empty, because heartbeats wait meanwhile."""


class FetchedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as it was fetched, with the attributes that Faust reads from it.

    aiokafka's own ``ConsumerRecord`` is a frozen dataclass of eleven fields, which takes longer to
    create than the record takes to read.
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
        size: how many bytes the items keep in memory.
        records: how many records the items stand for.
    """

    items: tuple[Any, ...]
    size: int
    records: int


class Delivered(NamedTuple):
    """A bundle as an agent gets it.

    Attributes:
        message: the message that Faust carries for it; acknowledging it acknowledges the bundle.
        items: what the fetcher made of its records, in order of offsets.
    """

    message: Any
    items: Sequence[Any]


def carriers(messages: Iterable[Any], is_bundled: Callable[[str], bool]) -> list[Any]:
    """Return the messages to hand over to Faust, which carry the remaining ones.

    Args:
        messages: what was fetched, in order.
        is_bundled: whether records of a topic reach their agent in bundles. Of such a topic, only
            the first message is handed over, with the remaining ones in its list `others`. Of any
            other topic, every message is handed over.
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
    """Bundles on their way from the fetcher, in the consumer's thread, to the agents.

    Args:
        max_bytes: the size of waiting bundles from which reading their topic should pause
            (`is_full`). The limit is per topic: a stage that is behind must not keep the next one
            from reading.
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
        """Count a bundle that is kept elsewhere as waiting, for as long as it exists."""
        with self._lock:
            self._bytes[topic] += bundle.size
        # A finalizer runs wherever the last reference is dropped, possibly while a lock is held.
        weakref.finalize(bundle, self._freed.append, (topic, bundle.size)).atexit = False

    def _count_freed(self) -> None:
        with self._lock:
            while self._freed:
                topic, size = self._freed.popleft()
                self._bytes[topic] -= size

    def put(self, position: Position, bundle: Bundle) -> None:
        """Add a bundle under the position of its first record."""
        with self._lock:
            self._remove(position)
            self._bundles[position] = bundle
            self._bytes[position.topic] += bundle.size

    def take(self, position: Position) -> Bundle | None:
        """Remove and return a bundle, or None if it was forgotten in the meantime."""
        with self._lock:
            return self._remove(position)

    def portions(self, messages: Iterable[Any]) -> Iterator[list[Delivered]]:
        """Take the bundles of messages, and yield small ones together.

        A bundle is taken only when its portion is asked for. If it is gone by then, it is left out:
        its partition was revoked or sought, and the bundle will be read again.
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
        """Drop the bundles of partitions that are revoked or will be read again."""
        gone = set(partitions)
        with self._lock:
            for position in list(self._bundles):
                if (position.topic, position.partition) in gone:
                    self._remove(position)

    def forget_from(self, start: Position) -> None:
        """Drop the bundles of a partition from an offset on; Faust has not seen them yet."""
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
