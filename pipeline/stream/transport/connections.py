"""Connections for fetches, which receive a response directly into its final place in memory.

aiokafka gathers a response in a growing buffer, copies it out, and then copies the records of each
partition out of that. Here the kernel writes a response into memory of the right size, and the
records of a partition are a view of it. Fetches have their own connection to each broker, so that
nothing else waits behind them. TLS and SASL are aiokafka's.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from time import monotonic
from typing import Any, Final

from aiokafka import errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from pipeline.stream.transport.batches import first_batch_end
from pipeline.stream.transport.buffers import Buffers

_log: Final = logging.getLogger(__name__)

_FETCHES: Final = "fetches"
_KEPT_BUFFERS: Final = 2
_SIZE_BYTES: Final = 4
_SHORT: Final = 1024


class _Frames(asyncio.BufferedProtocol):
    """Cuts the received data into frames: a size of four bytes, followed by that many bytes."""

    def __init__(self, connection: FetchConnection, buffers: Buffers) -> None:
        self._connection = weakref.ref(connection)
        self._buffers = buffers
        self._size = memoryview(bytearray(_SIZE_BYTES))
        self._part = self._size
        self._filled = 0
        self.is_open = True

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self._part[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled < len(self._part):
            return
        self._filled = 0
        if self._part is self._size:
            size = int.from_bytes(self._size, "big", signed=True)
            if size <= 0:
                raise errors.KafkaConnectionError(f"a response of {size} bytes")
            self._part = self._buffers.lend(size)
        else:
            frame, self._part = self._part, self._size
            connection = self._connection()
            if connection is not None:
                connection.on_frame(frame)

    def eof_received(self) -> bool:
        self.is_open = False
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._part = self._size
        connection = self._connection()
        if connection is not None:
            connection.on_lost(exc)


class _Stream:
    """The part of a stream reader and writer that `AIOKafkaConnection` uses."""

    def __init__(self, transport: Any, frames: _Frames) -> None:
        self._transport = transport
        self._frames = frames

    def at_eof(self) -> bool:
        return not self._frames.is_open

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def drain(self) -> None:
        """Do not wait: requests are short, and the transport buffers what the socket refuses."""

    def close(self) -> None:
        self._transport.close()


class _Fields:
    """Reads the fields of a frame; long ones are returned as views."""

    def __init__(self, frame: memoryview) -> None:
        self._frame = frame
        self._at = 0

    def read(self, size: int) -> bytes | memoryview:
        start, self._at = self._at, self._at + size
        piece = self._frame[start : self._at]
        return bytes(piece) if size < _SHORT else piece


class FetchConnection(AIOKafkaConnection):
    """A connection whose fetch responses hold views of the memory they were received in."""

    def __init__(self, buffers: Buffers, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._buffers = buffers

    async def connect(self) -> tuple[Any, Any]:
        loop = self._loop
        self._closed_fut = loop.create_future()
        frames = _Frames(self, self._buffers)
        async with asyncio.timeout(self._request_timeout):
            transport, _ = await loop.create_connection(
                lambda: frames,
                self.host,
                self.port,
                ssl=self._ssl_context if self._security_protocol.endswith("SSL") else None,
            )
        self._protocol = frames
        self._reader = self._writer = _Stream(transport, frames)
        self._read_task = loop.create_future()  # nothing needs to read: `_Frames` is called
        if self._max_idle_ms is not None:
            self._idle_handle = loop.call_soon(self._idle_check, weakref.ref(self))
        try:
            await self._do_version_lookup()
            if self._security_protocol.startswith("SASL"):
                await self._do_sasl_handshake()
        except BaseException:
            self.close()
            raise
        return self._reader, self._writer

    def on_frame(self, frame: memoryview) -> None:
        """Resolve the oldest request with a frame."""
        correlation_id, request, future = self._requests[0]
        if request is None or request.API_KEY != FetchRequest.API_KEY:
            self._handle_frame(bytes(frame))
            return
        fields = _Fields(frame)
        header = request.parse_response_header(fields)
        if header.correlation_id != correlation_id:
            error = errors.CorrelationIdError(
                f"sent a request {correlation_id}, received a response to {header.correlation_id}"
            )
            self.close(reason=CloseReason.OUT_OF_SYNC, exc=error)
            return
        if not future.done():
            future.set_result(request.RESPONSE_TYPE.decode(fields))
        self._last_action = monotonic()
        self._requests.popleft()

    def on_lost(self, error: Exception | None) -> None:
        """Fail the requests that wait for a response, because the socket is closed."""
        if self._closed_fut is not None and not self._closed_fut.done():
            self._closed_fut.set_result(None)
        self.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)


class FetchClient(AIOKafkaClient):
    """A client with a separate connection to each broker for fetches.

    Attributes:
        answered_at: when a broker last answered a fetch (`time.monotonic`); initially, when the
            client was adopted.
    """

    answered_at: float
    _buffers: Buffers
    _viewed: frozenset[str]
    _views: dict[int, dict[TopicPartition, memoryview]]

    @classmethod
    def adopt(cls, client: AIOKafkaClient, viewed: frozenset[str]) -> None:
        """Turn a client that has not fetched yet into one of ours.

        Args:
            client: the client.
            viewed: topics whose records are read from `take_views`. For them, a response itself
                holds only the first batch of each partition.
        """
        client.__class__ = cls
        client.answered_at = monotonic()
        client._buffers = Buffers(_KEPT_BUFFERS)  # noqa: SLF001
        client._viewed = viewed  # noqa: SLF001
        client._views = {}  # noqa: SLF001

    def take_views(self, request: FetchRequest) -> dict[TopicPartition, memoryview]:
        """Return the records in the response to a request, for topics that are read as views.

        The memory stays reserved for as long as a view of it exists.
        """
        return self._views.pop(id(request), {})

    async def send(
        self, node_id: Any, request: Any, *, group: Any = ConnectionGroup.DEFAULT
    ) -> Any:
        if not isinstance(request, FetchRequest):
            return await super().send(node_id, request, group=group)
        response = await super().send(node_id, request, group=_FETCHES)
        self.answered_at = monotonic()
        views: dict[TopicPartition, memoryview] = {}
        response.topics = [
            (topic, [self._without_view(topic, part, views) for part in partitions])
            for topic, partitions in response.topics
        ]
        if views:
            self._views[id(request)] = views
        return response

    def _without_view(
        self, topic: str, part: tuple[Any, ...], views: dict[TopicPartition, memoryview]
    ) -> tuple[Any, ...]:
        """Return a partition's part of a response, with the bytes that aiokafka's reader needs."""
        records = part[-1]
        if not records:
            return part
        if topic in self._viewed and (end := first_batch_end(records)) is not None:
            views[TopicPartition(topic, part[0])] = memoryview(records)
            records = records[:end]
        return (*part[:-1], bytes(records))

    async def _get_conn(
        self, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False
    ) -> Any:
        if group != _FETCHES:
            return await super()._get_conn(node_id, group=group, no_hint=no_hint)
        key = (node_id, group)
        try:
            while not ((connection := self._conns.get(key)) and connection.connected()):
                async with self._get_conn_lock:
                    # Another task may have connected in the meantime.
                    if self._conns.get(key) is connection:
                        self._conns[key] = await self._connect(node_id)
        except (OSError, errors.KafkaError) as exc:
            _log.error("Unable to connect to node %s for fetches: %s", node_id, exc)
            self.force_metadata_update()
            return None
        return connection

    async def _connect(self, node_id: Any) -> FetchConnection:
        broker = self.cluster.broker_metadata(node_id)
        if broker is None:
            raise errors.StaleMetadata(f"broker {node_id} is not in the metadata")
        connection = FetchConnection(
            self._buffers,
            broker.host,
            broker.port,
            client_id=self._client_id,
            request_timeout_ms=self._request_timeout_ms,
            ssl_context=self._ssl_context,
            security_protocol=self._security_protocol,
            on_close=self._on_connection_closed,
            max_idle_ms=self._connections_max_idle_ms,
            sasl_mechanism=self._sasl_mechanism,
            sasl_plain_username=self._sasl_plain_username,
            sasl_plain_password=self._sasl_plain_password,
            sasl_kerberos_service_name=self._sasl_kerberos_service_name,
            sasl_kerberos_domain_name=self._sasl_kerberos_domain_name,
            sasl_oauth_token_provider=self._sasl_oauth_token_provider,
        )
        await connection.connect()
        return connection
