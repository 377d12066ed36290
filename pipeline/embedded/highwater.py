"""Gets the true end of a partition from the embedded broker.

Its ListOffsets(latest) returns the base offset of the last batch instead of the end. Faust's table
recovery would therefore end early, and find a healthy table "ahead" of its changelog. The high
watermark in a fetch response is correct. For the demo and the quick tests only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition
from faust.types import TP

from pipeline.stream.transport import Consumer, ConsumerThread, Transport

_MAX_WAIT_MS = 100
_MAX_BYTES = 1


class EmbeddedConsumerThread(ConsumerThread):
    """A consumer thread that takes the end of a partition from a fetch response."""

    async def _highwaters(self, partitions: Any) -> Mapping[TP, int]:
        ends = dict(await super()._highwaters(partitions))
        client = self._ensure_consumer()._client  # noqa: SLF001
        for tp, end in list(ends.items()):
            leader = client.cluster.leader_for_partition(TopicPartition(tp.topic, tp.partition))
            position = (tp.partition, end or 0, _MAX_BYTES)
            request = FetchRequest(_MAX_WAIT_MS, 0, 1, 0, [(tp.topic, [position])], rack_id="")
            response = await client.send(leader, request)
            for _, answers in response.topics:
                for answer in answers:
                    error, highwater = answer[1], answer[2]
                    if error == 0:
                        ends[tp] = max(ends[tp] or 0, highwater)
        return ends


class EmbeddedConsumer(Consumer):
    """A consumer on `EmbeddedConsumerThread`."""

    def _new_consumer_thread(self) -> ConsumerThread:
        return EmbeddedConsumerThread(self, loop=self.loop, beacon=self.beacon)


class EmbeddedTransport(Transport):
    """The transport of a worker that runs on the embedded broker."""

    Consumer = EmbeddedConsumer
