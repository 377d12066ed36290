"""Skips batches that contain nothing a rule needs, which is most of what a worker reads.

Each batch sends a quarter of a megabyte through the processor's caches, and evicts what we need for
the next one. So there is little code per batch here. With `firstseen-native` there is none at all:
one call skips many batches, and reads the records of the first one that contains something. Both
find the same (docs/adr/0012-native-code.md).

A batch with anything unusual about it is left to `filtered_records`, which looks at it more
closely.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from aiokafka.structs import TopicPartition

from pipeline.record import NO_TIMESTAMP
from pipeline.stream.transport.batches import (
    CODEC_MASK,
    HEADER_BYTES,
    LENGTH_OVERHEAD,
    MAGIC,
    OF_TRANSACTIONS,
    UnreadableBatchError,
    checksum,
    unpack_header,
)
from pipeline.stream.transport.bundles import FetchedRecord
from pipeline.stream.transport.decompression import Decompressor

LARGE_BYTES: Final = 8 << 20
"""A batch that is larger when decompressed is not searched as a whole.

It may consist of a searched text over and over, with as many positions.
"""

_LAST_OFFSET: Final = 2**63 - 1
"""The greatest offset in Kafka; the offsets that a batch claims may add up to more."""

Searched: TypeAlias = tuple[bytes | memoryview, Sequence[int]]
"""A decompressed records section and the positions found in it (none if it is too large)."""


class ScanResult(NamedTuple):
    """The result of skipping batches, and of looking at the one where that ended.

    Attributes:
        at: the start of the first batch that is not done.
        searched_to: the offset after the last one searched; initially where the search was to
            begin.
        unread: how many records were dropped.
        latest_ms: the latest timestamp of the batches that were searched.
        searched: what was found in the batch at `at`, if it has been searched.
        records: the records to judge of the last batch before `at`.
    """

    at: int
    searched_to: int
    unread: int
    latest_ms: int
    searched: Searched | None = None
    records: Sequence[FetchedRecord] = ()


class Search(Protocol):
    """What a scan needs of the filter; see `record_filter.RecordFilter`."""

    @property
    def texts(self) -> tuple[bytes, ...]: ...
    @property
    def unwatched_bytes(self) -> int: ...
    def positions(self, data: bytes | memoryview) -> Sequence[int]: ...
    def note_searched(self, size: int) -> None: ...


class BatchScan(Protocol):
    """Skips batches. Not thread-safe.

    Attributes:
        decompressor: for the batches that are not skipped.
    """

    decompressor: Decompressor

    def skip_batches(
        self, tp: TopicPartition, data: memoryview, at: int, searched_to: int, deadline: float
    ) -> ScanResult:
        """Skip batches that contain nothing a rule needs.

        Args:
            tp: their partition.
            data: what was fetched of it.
            at: the start of the first batch.
            searched_to: the offset from which on records are wanted.
            deadline: when to stop (`time.monotonic`).
        """


class PythonScan:
    """Skips batches one by one."""

    def __init__(self, search: Search, *, check_crcs: bool) -> None:
        self.decompressor = Decompressor()
        self._search = search.positions
        self._check_crcs = check_crcs

    def skip_batches(
        self,
        tp: TopicPartition,  # noqa: ARG002 - the native one makes records of it
        data: memoryview,
        at: int,
        searched_to: int,
        deadline: float,
    ) -> ScanResult:
        size, check_crcs = len(data), self._check_crcs
        decompress, search = self.decompressor.decompress, self._search
        unread, latest_ms = 0, NO_TIMESTAMP
        searched = None
        while size - at >= HEADER_BYTES and monotonic() <= deadline:
            header = unpack_header(data, at)
            base, length, _, magic, crc, attributes, last, _, timestamp_ms, _, _, _, records = (
                header
            )
            end = at + LENGTH_OVERHEAD + length
            if (
                magic != MAGIC
                or attributes & OF_TRANSACTIONS
                or base < searched_to
                or not at + HEADER_BYTES <= end <= size
                or (check_crcs and checksum(data, at, end) != crc)
            ):
                break
            try:
                payload = decompress(data[at + HEADER_BYTES : end], attributes & CODEC_MASK)
            except UnreadableBatchError:
                break
            positions = search(payload) if len(payload) <= LARGE_BYTES else ()
            if positions or len(payload) > LARGE_BYTES:
                searched = payload, positions
                break
            at = end
            searched_to = max(searched_to, base + last + 1)
            unread += max(0, records)
            latest_ms = max(latest_ms, timestamp_ms)
        return ScanResult(at, searched_to, unread, latest_ms, searched)


class NativeScan:
    """Skips many batches per call of `firstseen-native`, without holding Python's lock.

    The Python scan still handles what `firstseen-native` does not know (other codecs, searches for
    more than a few texts), and the data from which the filter chooses its texts.
    """

    def __init__(
        self, search: Search, *, check_crcs: bool, new: Callable[[list[bytes]], Any]
    ) -> None:
        self._python = PythonScan(search, check_crcs=check_crcs)
        self.decompressor = self._python.decompressor
        self._search = search
        self._check_crcs = check_crcs
        self._new = new
        self._texts: tuple[bytes, ...] = ()
        self._scan: Any = None

    def skip_batches(
        self, tp: TopicPartition, data: memoryview, at: int, searched_to: int, deadline: float
    ) -> ScanResult:
        texts, most = self._search.texts, self._search.unwatched_bytes
        if not texts or most <= 0 or searched_to > _LAST_OFFSET:
            return self._python.skip_batches(tp, data, at, searched_to, deadline)
        if texts != self._texts:
            self._texts, self._scan = texts, self._new(list(texts))
        end, searched_to, unread, latest_ms, size, found = self._scan.skip_batches(
            data,
            at,
            searched_to,
            self.decompressor.room,
            most,
            deadline - monotonic(),
            self._check_crcs,
        )
        if end == at:
            return self._python.skip_batches(tp, data, at, searched_to, deadline)
        self._search.note_searched(size)
        records = [FetchedRecord(tp.topic, tp.partition, *row) for row in found] if found else ()
        return ScanResult(end, searched_to, unread, latest_ms, records=records)


def batch_scan(search: Search, *, native: bool, check_crcs: bool) -> BatchScan:
    """Return a scan.

    Args:
        search: what to look for.
        native: whether `firstseen-native`, which must then be installed, skips batches.
        check_crcs: whether the checksums of batches are compared.
    """
    if native:
        import firstseen_native  # noqa: PLC0415 - it need not be installed

        return NativeScan(search, check_crcs=check_crcs, new=firstseen_native.Scan)
    return PythonScan(search, check_crcs=check_crcs)
