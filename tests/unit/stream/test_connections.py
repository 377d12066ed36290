"""Fetches over a real socket, answered by a broker that says what a test wants."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v11
from aiokafka.protocol.metadata import MetadataResponse_v0
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from pipeline.stream.transport.connections import FetchClient

FETCH, METADATA, VERSIONS = 1, 3, 18
NODE = 1


def batch(offset: int, value: bytes) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 22)
    builder.append(0, 1_700_000_000_000, None, value, [])
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, offset)
    return bytes(built)


def fetched(partitions: dict[tuple[str, int], bytes]) -> bytes:
    topics = {}
    for (topic, number), records in partitions.items():
        topics.setdefault(topic, []).append((number, 0, 100, 90, 0, [(5, 6)], -1, records))
    return FetchResponse_v11(0, 0, 0, list(topics.items())).encode()


Answer = Callable[[int, bytes], bytes | None]


class Broker:
    """Answers versions and metadata, and fetches with what `answer` returns; None hangs up."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.fetch_connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_for_fetches = False
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                request = await reader.readexactly(size)
                key, _, correlation_id = struct.unpack_from(">hhi", request)
                if key == VERSIONS:
                    ranges = [(FETCH, 0, 11), (METADATA, 0, 0), (VERSIONS, 0, 0)]
                    body = struct.pack(">hi", 0, len(ranges))
                    body += b"".join(struct.pack(">hhh", *one) for one in ranges)
                elif key == METADATA:
                    body = MetadataResponse_v0([(NODE, "127.0.0.1", self.port)], []).encode()
                else:
                    assert key == FETCH
                    self.fetch_connections += not is_for_fetches
                    is_for_fetches = True
                    sent = self._answer(correlation_id, request)
                    if sent is None:
                        break
                    for start in range(0, len(sent), 100_000):  # in pieces, as networks do
                        writer.write(sent[start : start + 100_000])
                        await writer.drain()
                        await asyncio.sleep(0)
                    continue
                writer.write(frame(correlation_id, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def frame(correlation_id: int, body: bytes) -> bytes:
    return struct.pack(">ii", len(body) + 4, correlation_id) + body


@asynccontextmanager
async def connected(answer: Answer, viewed: set[str]) -> AsyncIterator[tuple[FetchClient, Broker]]:
    broker = Broker(answer)
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{broker.port}", request_timeout_ms=2000)
    FetchClient.adopt(client, frozenset(viewed))
    try:
        await client.bootstrap()
        yield client, broker
    finally:
        await client.close()
        server.close()
        await server.wait_closed()


def request() -> FetchRequest:
    return FetchRequest(500, 1, 1 << 20, 0, [("events", [(0, 0, 1 << 20)])], rack_id="")


def test_viewed_topics_are_views_and_all_else_is_as_aiokafka_reads_it():
    many = batch(0, b"first") + batch(1, b"x" * 3_000_000) + batch(2, b"last")[:-3]
    answer = fetched(
        {("events", 0): many, ("events", 3): b"", ("events", 4): many[:40], ("other", 0): many}
    )

    async def run() -> None:
        async with connected(lambda number, _: frame(number, answer), {"events"}) as (client, _):
            asked = request()
            response = await client.send(NODE, asked)
            views = client.take_views(asked)

            read = {
                (topic, part[0]): part[1:] for topic, parts in response.topics for part in parts
            }
            said = (0, 100, 90, 0, [(5, 6)], -1)
            assert read == {
                ("events", 0): (*said, batch(0, b"first")),
                ("events", 3): (*said, b""),
                ("events", 4): (*said, many[:40]),  # nothing whole: aiokafka says what to do
                ("other", 0): (*said, many),
            }
            assert {type(part[-1]) for part in read.values()} == {bytes}
            assert {tp: bytes(view) for tp, view in views.items()} == {
                TopicPartition("events", 0): many
            }
            assert client.take_views(asked) == {}

    asyncio.run(run())


def test_what_a_view_shows_stays_while_more_is_fetched():
    def answer(number: int, _: bytes) -> bytes:
        return frame(number, fetched({("events", 0): batch(0, b"%d" % (number % 10) * 100_000)}))

    async def run() -> None:
        async with connected(answer, {"events"}) as (client, broker):
            kept = []
            for _ in range(6):
                asked = request()
                await client.send(NODE, asked)
                (view,) = client.take_views(asked).values()
                kept.append((view, bytes(view)))
            assert len({before for _, before in kept}) == 6
            assert all(bytes(view) == before for view, before in kept)
            assert broker.fetch_connections == 1

    asyncio.run(run())


def test_fetches_at_the_same_time_share_a_connection():
    answer = fetched({("events", 0): batch(0, b"value")})

    async def run() -> None:
        async with connected(lambda number, _: frame(number, answer), {"events"}) as (
            client,
            broker,
        ):
            asked = [request() for _ in range(5)]
            await asyncio.gather(*(client.send(NODE, one) for one in asked))
            assert [list(client.take_views(one).values()) for one in asked] == [
                [batch(0, b"value")]
            ] * 5
            assert broker.fetch_connections == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda *_: None, errors.KafkaConnectionError),
        (lambda number, _: frame(number + 1, b"\0" * 20), errors.KafkaConnectionError),
        (lambda *_: struct.pack(">i", -5), errors.KafkaConnectionError),
        (lambda number, _: frame(number, b"\0\0\0"), errors.KafkaConnectionError),
        (lambda number, _: frame(number, b"\0" * 100)[:50], errors.RequestTimedOutError),
    ],
    ids=["hangs up", "wrong number", "negative size", "nonsense", "stops halfway"],
)
def test_after_a_failure_the_next_fetch_has_a_new_connection(answer, error):
    good = fetched({("events", 0): batch(0, b"value")})
    failing = True

    def answers(number: int, asked: bytes) -> bytes | None:
        return answer(number, asked) if failing else frame(number, good)

    async def run() -> None:
        nonlocal failing
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with connected(answers, {"events"}) as (client, broker):
            with pytest.raises(error):
                await client.send(NODE, request())
            failing = False
            asked = request()
            await client.send(NODE, asked)
            assert list(client.take_views(asked).values()) == [batch(0, b"value")]
            assert broker.fetch_connections == 2

    asyncio.run(run())


def test_a_broker_that_cannot_be_reached_is_not_ready():
    async def run() -> None:
        async with connected(lambda *_: None, set()) as (client, broker):
            broker.port = 1
            await client.force_metadata_update()
            with pytest.raises(errors.NodeNotReadyError):
                await client.send(NODE, request())

    asyncio.run(run())
