"""Bundles in place of records: what aiokafka fetched, gathered while it is read.

aiokafka hands each partition's share of a fetch response to a `PartitionRecords`, an iterator that
parses batches, yields records, and knows the next position. Here that iterator is replaced by one
that yields a single record per bundle.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

import msgspec
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.structs import TopicPartition

from pipeline.record import Position
from pipeline.stream.transport.bundles import (
    MAX_BUNDLE_BYTES,
    MAX_BUNDLE_RECORDS,
    MAX_BUNDLE_SECONDS,
    Bundle,
    BundleBuffer,
    FetchedRecord,
)
from pipeline.stream.transport.record_filter import Item


class BundledRecords(PartitionRecords):
    """Yields the first record of each bundle, and puts the bundle into the buffer."""

    bundle_buffer: BundleBuffer
    next_fetch_offset: int

    def _consumer_record(self, tp: TopicPartition, record: Any) -> FetchedRecord:
        if type(record) is FetchedRecord:
            return record
        return FetchedRecord(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp,
            record.timestamp_type,
            record.key,
            record.value,
            tuple(record.headers) if record.headers else (),
        )

    def _bundle(
        self, items: Iterator[tuple[FetchedRecord, Item | None]]
    ) -> Iterator[FetchedRecord]:
        """Gather items into bundles; a record whose item is None was judged and dropped."""
        first: FetchedRecord | None = None
        record: FetchedRecord | None = None
        bundle: list[Item] = []
        size = records = 0
        deadline = monotonic() + MAX_BUNDLE_SECONDS
        for record, item in items:
            if item is not None:
                first = first or record
                bundle.append(item)
                size += item.size
                records += item.records
            full = records >= MAX_BUNDLE_RECORDS or size >= MAX_BUNDLE_BYTES
            if full or monotonic() > deadline:
                whole = Bundle(tuple(bundle), size, records)
                yield self._hand_over(first or record, record, whole)
                first, bundle, size, records = None, [], 0, 0
                deadline = monotonic() + MAX_BUNDLE_SECONDS
        if first is not None and record is not None:
            yield self._hand_over(first, record, Bundle(tuple(bundle), size, records))

    def _hand_over(
        self,
        first: FetchedRecord,
        last: FetchedRecord,  # noqa: ARG002 - for others
        bundle: Bundle,
    ) -> FetchedRecord:
        """Put a bundle where its reader finds it; return the record that Faust carries for it."""
        self.bundle_buffer.put(Position(first.topic, first.partition, first.offset), bundle)
        return first

    def _deliver_to(self, bundle_buffer: BundleBuffer) -> None:
        self.bundle_buffer = bundle_buffer
        # If a fetch ended with an error, aiokafka delivers nothing of it, and it is read again.
        bundle_buffer.forget_from(
            Position(self._tp.topic, self._tp.partition, self.next_fetch_offset)
        )

    @classmethod
    def adopt(cls, records: PartitionRecords, bundle_buffer: BundleBuffer) -> None:
        """Turn an aiokafka iterator that nobody has read from yet into one of ours."""
        records.__class__ = cls
        records._deliver_to(bundle_buffer)  # noqa: SLF001
        unpacked = records._unpack_records()  # noqa: SLF001
        records._records_iterator = records._bundle((r, r) for r in unpacked)  # noqa: SLF001


class BundleRecord(FetchedRecord, frozen=True, gc=False):
    """The last record of a bundle; it carries the bundle."""

    bundle: Bundle


class ChangelogRecords(BundledRecords):
    """Yields the last record of each bundle, with the bundle attached."""

    def _hand_over(
        self,
        first: FetchedRecord,  # noqa: ARG002 - for others
        last: FetchedRecord,
        bundle: Bundle,
    ) -> FetchedRecord:
        self.bundle_buffer.count(last.topic, bundle)
        return BundleRecord(**msgspec.structs.asdict(last), bundle=bundle)
