"""The transport that Faust is given."""

from __future__ import annotations

from typing import Any

from faust.transport.drivers import aiokafka

from pipeline.stream.transport.consumer import Consumer
from pipeline.stream.transport.fetcher import Reading
from pipeline.stream.transport.options import TransportOptions
from pipeline.stream.transport.producer import Producer


class Transport(aiokafka.Transport):
    """Creates our consumer and producer; given to Faust by `App._new_transport`."""

    Consumer = Consumer
    Producer = Producer

    def __init__(
        self,
        *args: Any,
        options: TransportOptions,
        reading: Reading,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.options = options
        self.reading = reading
