"""The transport that Faust is given."""

from __future__ import annotations

from typing import Any

from faust.transport.drivers import aiokafka

from pipeline.stream.transport.consumer import Consumer
from pipeline.stream.transport.filtering import RecordFilter
from pipeline.stream.transport.options import TransportOptions
from pipeline.stream.transport.producer import Producer


class Transport(aiokafka.Transport):
    """Makes our consumer and producer; given to Faust by `App._new_transport`."""

    Consumer = Consumer
    Producer = Producer

    def __init__(
        self,
        *args: Any,
        options: TransportOptions,
        record_filter: RecordFilter | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.options = options
        self.record_filter = record_filter
