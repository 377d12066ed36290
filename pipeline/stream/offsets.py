"""Which offset of a partition may be committed, independent of any framework or broker.

Faust's own bookkeeping commits past records that are still in flight, and loses its way where
offsets have gaps (compaction, transaction markers). Here a partition has

* the *scanned* position: the next offset that has not been looked at yet;
* the delivered offsets that are not acknowledged yet.

The offset to commit is the smallest unacknowledged one; if there is none, it is the scanned
position. Both sides cost O(1) per record, and a run of skipped records costs nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

P = TypeVar("P", bound=Hashable)


class _Partition:
    __slots__ = ("acknowledged", "base", "delivered", "scanned")

    def __init__(self, base: int | None) -> None:
        self.base = base
        self.scanned = base
        self.delivered: deque[int] = deque()
        self.acknowledged: set[int] = set()


class OffsetTracker(Generic[P]):
    """Committable positions by partition.

    The consumer's thread reports what it scanned and passed on. The event loop reports what was
    acknowledged, and asks what may be committed. A lock protects the state that they share.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._partitions: dict[P, _Partition] = {}

    def begin(self, partition: P, base: int | None) -> None:
        """Restart the bookkeeping of a partition, right after a seek.

        Args:
            partition: the partition; everything known about it is dropped.
            base: the next offset to read; None if reading begins wherever the consumer stands.
        """
        with self._lock:
            self._partitions[partition] = _Partition(base)

    def passed(self, partition: P, position: int) -> None:
        """Record that nothing was delivered up to a position, for example after control records.

        This is ignored for a partition that was not begun. If such a partition was dropped, records
        that were delivered and then thrown away may lie before the position.
        """
        with self._lock:
            state = self._partitions.get(partition)
            if state is not None:
                state.scanned = position

    def scanned(self, partition: P, base: int, position: int, delivered: Iterable[int]) -> None:
        """Record one fetch.

        Args:
            partition: the partition that was fetched.
            base: the position at which the fetch started.
            position: the next offset after the fetch, skipped records included.
            delivered: the offsets, ascending, that were passed on and must be acknowledged.
        """
        with self._lock:
            state = self._partitions.get(partition)
            if state is None:
                state = self._partitions[partition] = _Partition(base)
            elif state.base is None:
                state.base = base
            state.delivered.extend(delivered)
            state.scanned = position

    def acknowledge(self, partition: P, offsets: Iterable[int]) -> None:
        """Mark delivered offsets as done; offsets of a forgotten partition are ignored."""
        with self._lock:
            state = self._partitions.get(partition)
            if state is not None:
                state.acknowledged.update(offsets)

    def committable(self, partition: P) -> int | None:
        """Return the offset to commit (the next one to read), or None if nothing was scanned."""
        with self._lock:
            state = self._partitions.get(partition)
            if state is None:
                return None
            delivered, acknowledged = state.delivered, state.acknowledged
            while delivered and delivered[0] in acknowledged:
                acknowledged.discard(delivered.popleft())
            return delivered[0] if delivered else state.scanned

    def forget(self, partition: P) -> int | None:
        """Drop a partition (revoked, or about to be sought); return where reading it began."""
        with self._lock:
            state = self._partitions.pop(partition, None)
            return None if state is None else state.base

    def partitions(self) -> list[P]:
        with self._lock:
            return list(self._partitions)

    def in_flight(self, partition: P) -> int:
        """Return how many delivered records of the partition are unacknowledged."""
        with self._lock:
            state = self._partitions.get(partition)
            return 0 if state is None else len(state.delivered) - len(state.acknowledged)
