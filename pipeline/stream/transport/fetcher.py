"""A fetcher that reads each partition with one of our iterators, chosen by topic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import TopicPartitionState
from aiokafka.structs import TopicPartition

from pipeline.stream.transport.bundled_records import BundledRecords, ChangelogRecords
from pipeline.stream.transport.bundles import BundleBuffer
from pipeline.stream.transport.connections import FetchClient
from pipeline.stream.transport.filtered_records import FilteredRecords
from pipeline.stream.transport.options import Depth
from pipeline.stream.transport.record_filter import RecordFilter
from pipeline.stream.transport.scanning import BatchScan, batch_scan


@dataclass(frozen=True, slots=True)
class Reading:
    """How the records of each topic are read; topics that are not named are left to aiokafka.

    Attributes:
        bundle_buffer: where bundles wait for their agents.
        bundled: topics of which every record is bundled.
        changelogs: topics whose records are bundled for their tables.
        record_filter: the filter of the input topics; None to leave them as they are.
        depth: where the filter drops records.
        native: whether `firstseen-native` skips batches in which no rule can match, and builds the
            batches that are produced.
    """

    bundle_buffer: BundleBuffer
    bundled: frozenset[str]
    changelogs: frozenset[str]
    record_filter: RecordFilter | None
    depth: Depth
    native: bool = False

    def bundles(self, topic: str) -> bool:
        """Whether records of this topic reach their agent in bundles."""
        return topic in self.filtered or topic in self.bundled

    @property
    def filtered(self) -> frozenset[str]:
        """The topics whose records the filter reads."""
        return frozenset() if self.record_filter is None else self.record_filter.topics


OnJump = Callable[[TopicPartition, int, int], None]
"""Called with a partition, the offset that was to be read next, and where reading continues."""


class FilteringFetcher(Fetcher):
    """Turns the result of a fetch into bundles before anybody reads from it."""

    reading: Reading
    _scan: BatchScan
    _on_jump: OnJump
    _out_of_range: dict[TopicPartition, tuple[TopicPartitionState, int]]

    @classmethod
    def adopt(cls, fetcher: Fetcher, reading: Reading, on_jump: OnJump) -> None:
        """Turn a fetcher that has not fetched yet (no subscription) into one of ours.

        Args:
            fetcher: the consumer's fetcher.
            reading: how the records of each topic are read.
            on_jump: called when the log does not have the offset that was to be read next, so that
                reading continues at the log's beginning.
        """
        fetcher.__class__ = cls
        fetcher.reading = reading
        fetcher._on_jump = on_jump  # noqa: SLF001
        fetcher._out_of_range = {}  # noqa: SLF001
        if reading.record_filter is not None:
            fetcher._scan = batch_scan(  # noqa: SLF001
                reading.record_filter,
                native=reading.native,
                check_crcs=fetcher._check_crcs,  # noqa: SLF001
            )
        FetchClient.adopt(fetcher._client, reading.filtered)  # noqa: SLF001

    @property
    def answered_at(self) -> float:
        """When a broker last answered a fetch (`time.monotonic`)."""
        answered_at: float = self._client.answered_at
        return answered_at

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> bool:
        try:
            wake_up: bool = await super()._proc_fetch_request(assignment, node_id, request)
        finally:
            views = self._client.take_views(request)
        # This is still the synchronous step that filled self._records: nobody has read from it.
        for topic, partitions in request.topics:
            for partition, offset, *_ in partitions:
                tp = TopicPartition(topic, partition)
                self._take_over(tp, views.get(tp))
                state = assignment.state_value(tp)
                if state is not None and state.awaiting_reset:
                    self._out_of_range[tp] = state, offset
        return wake_up

    async def _update_fetch_positions(
        self, assignment: Any, node_id: Any, tps: list[TopicPartition]
    ) -> bool:
        wake_up: bool = await super()._update_fetch_positions(assignment, node_id, tps)
        for tp in tps:
            state = assignment.state_value(tp)
            if tp in self._out_of_range and state is not None and state.has_valid_position:
                before, offset = self._out_of_range.pop(tp)
                # After a rebalance, the position is the committed offset: nothing has jumped.
                if before is state:
                    self._on_jump(tp, offset, state.position)
        return wake_up

    def seek_to(self, tp: TopicPartition, offset: int) -> None:
        """Seek a partition; the next fetch tells whether the log has this offset."""
        self._out_of_range.pop(tp, None)
        super().seek_to(tp, offset)

    def _take_over(self, tp: TopicPartition, data: memoryview | None) -> None:
        result = self._records.get(tp)
        if type(result) is not FetchResult:
            return
        records = result._partition_records  # noqa: SLF001
        if type(records) is not PartitionRecords:
            return  # waits from an earlier fetch, and is ours already
        reading = self.reading
        if tp.topic in reading.bundled:
            BundledRecords.adopt(records, reading.bundle_buffer)
        elif tp.topic in reading.changelogs:
            ChangelogRecords.adopt(records, reading.bundle_buffer)
        elif reading.record_filter is not None and data is not None:
            FilteredRecords.adopt_filtered(
                records,
                reading.bundle_buffer,
                reading.record_filter,
                reading.depth,
                data=data,
                scan=self._scan,
            )
