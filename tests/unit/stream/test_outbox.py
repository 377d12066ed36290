"""The gate: nothing is committed before what was produced is acknowledged."""

import asyncio
from dataclasses import dataclass, field

import pytest

from pipeline.errors import DeliveryError
from pipeline.stream.outbox import Delivery, Outbox


@dataclass
class Sent:
    topic: str
    partition: int
    offset: int


@dataclass
class HeldProducer:
    """A producer whose acknowledgements the test gives by hand."""

    futures: list[asyncio.Future] = field(default_factory=list)

    async def send(self, topic, **_):
        future = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        return future


def test_an_empty_outbox_is_settled():
    async def check() -> bool:
        return await Outbox(HeldProducer).settle(0.0)

    assert asyncio.run(check())


def test_an_unacknowledged_record_keeps_the_gate_shut():
    async def check() -> list[bool]:
        producer = HeldProducer()
        outbox = Outbox(lambda: producer)
        await outbox.send("t", value=b"1")
        before = await outbox.settle(0.01)
        producer.futures[0].set_result(Sent("t", 0, 5))
        return [before, await outbox.settle(1.0)]

    assert asyncio.run(check()) == [False, True]


def test_what_is_sent_after_the_offsets_were_read_is_not_waited_for():
    async def check() -> bool:
        producer = HeldProducer()
        outbox = Outbox(lambda: producer)
        await outbox.send("t", value=b"before")
        settling = asyncio.create_task(outbox.settle(1.0))
        await asyncio.sleep(0)
        await outbox.send("t", value=b"after")
        producer.futures[0].set_result(Sent("t", 0, 1))
        return await settling

    assert asyncio.run(check())


def test_a_failed_delivery_shuts_the_gate_for_good():
    async def check() -> list[object]:
        failures: list[DeliveryError] = []
        producer = HeldProducer()
        outbox = Outbox(lambda: producer, on_failure=failures.append)
        await outbox.send("alerts", value=b"1")
        producer.futures[0].set_exception(OSError("broker gone"))
        await asyncio.sleep(0)
        with pytest.raises(DeliveryError, match="alerts.*broker gone"):
            await outbox.settle(1.0)
        with pytest.raises(DeliveryError):
            await outbox.send("alerts", value=b"2")
        return failures

    assert len(asyncio.run(check())) == 1


def test_a_failure_that_the_loop_has_not_told_yet_is_seen():
    async def check() -> bool:
        producer = HeldProducer()
        outbox = Outbox(lambda: producer)
        await outbox.send("alerts", value=b"1")
        producer.futures[0].set_exception(OSError("broker gone"))
        try:
            return await outbox.settle(1.0)
        except DeliveryError:
            return False

    assert not asyncio.run(check())


def test_a_full_outbox_makes_the_next_send_wait():
    async def check() -> list[bool]:
        producer = HeldProducer()
        outbox = Outbox(lambda: producer, max_records=2)
        await outbox.send("t", value=b"1")
        await outbox.send("t", value=b"2")
        third = asyncio.create_task(outbox.send("t", value=b"3"))
        await asyncio.sleep(0)
        waited = not third.done()
        producer.futures[0].set_result(Sent("t", 0, 0))
        await third
        producer.futures[1].set_result(Sent("t", 0, 1))
        producer.futures[2].set_result(Sent("t", 0, 2))
        return [waited, await outbox.settle(1.0)]

    assert asyncio.run(check()) == [True, True]


def test_an_acknowledgement_tells_where_the_record_went():
    async def check() -> list[Delivery]:
        acknowledged: list[Delivery] = []
        producer = HeldProducer()
        outbox = Outbox(lambda: producer)
        await outbox.send("t", value=b"1", on_acknowledged=acknowledged.append)
        producer.futures[0].set_result(Sent("t", 3, 42))
        await outbox.settle(1.0)
        return acknowledged

    assert asyncio.run(check()) == [Delivery("t", 3, 42)]
