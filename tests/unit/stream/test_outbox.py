"""The gate: nothing is committed before what was produced is acknowledged."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from pipeline.engine.partition import partition_of
from pipeline.errors import DeliveryError
from pipeline.stream.outbox import Acknowledgement, Outbox, Outgoing

T = TypeVar("T")


@dataclass
class Sent:
    topic: str
    partition: int
    offset: int


@dataclass
class Batch:
    """Holds so many records."""

    room: int
    values: list[bytes | None] = field(default_factory=list)
    closed: bool = False

    def extend(self, records, start, timestamp_ms) -> int:
        added = records[start : start + self.room - len(self.values)]
        self.values += [record.value for record in added]
        return len(added)

    def close(self) -> None:
        self.closed = True


@dataclass
class HeldProducer:
    """A producer whose acknowledgements the test gives by hand.

    Attributes:
        room: records in a batch.
        sent: topic, partition and values of each batch, and what ends with its acknowledgement.
        keys: the key of each record that is sent on its own.
    """

    room: int = 100
    keys: list[bytes | None] = field(default_factory=list)
    sent: list[tuple[str, int, list[bytes | None], asyncio.Future]] = field(default_factory=list)

    def create_batch(self) -> Batch:
        return Batch(self.room)

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1, 2}

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future:
        assert batch.closed
        return self._hold(topic, partition, batch.values)

    async def send(
        self, topic: str, *, value: bytes | None, key: bytes | None, **_: Any
    ) -> asyncio.Future:
        self.keys.append(key)
        return self._hold(topic, 0, [value])

    def _hold(self, topic: str, partition: int, values: list[bytes | None]) -> asyncio.Future:
        future = asyncio.get_running_loop().create_future()
        self.sent.append((topic, partition, values, future))
        return future

    def acknowledge(self, number: int, offset: int) -> None:
        topic, partition, _, future = self.sent[number]
        future.set_result(Sent(topic, partition, offset))

    @property
    def values(self) -> list[list[bytes | None]]:
        return [values for _, _, values, _ in self.sent]


def run(check: Callable[[HeldProducer, Outbox], Awaitable[T]], **options: Any) -> T:
    async def checked() -> T:
        producer = HeldProducer(room=options.pop("room", 100))
        return await check(producer, Outbox(lambda: producer, **options))

    return asyncio.run(checked())


def records(*values: bytes) -> list[Outgoing]:
    return [Outgoing(b"key", value) for value in values]


async def shipped() -> None:
    """Let go what lingers for no time."""
    for _ in range(5):
        await asyncio.sleep(0.001)


# -- the gate


def test_an_empty_outbox_is_settled():
    async def check(_: HeldProducer, outbox: Outbox) -> bool:
        return await outbox.settle(0.0)

    assert run(check)


@pytest.mark.parametrize("way", ["send", "send_to"])
def test_an_unacknowledged_record_keeps_the_gate_shut(way: str):
    async def check(producer: HeldProducer, outbox: Outbox) -> list[bool]:
        if way == "send":
            await outbox.send("t", value=b"1")
        else:
            await outbox.send_to("t", 0, records(b"1"))
        before = await outbox.settle(0.05)
        producer.acknowledge(0, 5)
        return [before, await outbox.settle(1.0)]

    assert run(check) == [False, True]


def test_it_says_how_long_the_oldest_record_has_waited():
    async def check(producer: HeldProducer, outbox: Outbox) -> list[float]:
        waited = [outbox.waiting_seconds()]
        await outbox.send_to("t", 0, records(b"1"))
        await asyncio.sleep(0.05)
        await outbox.send_to("t", 1, records(b"2"))
        waited.append(outbox.waiting_seconds())
        await shipped()
        for number, offset in ((0, 5), (1, 6)):
            producer.acknowledge(number, offset)
        await outbox.settle(1.0)
        return [*waited, outbox.waiting_seconds()]

    before, waiting, after = run(check)
    assert (before, after) == (0.0, 0.0)
    assert waiting >= 0.05


def test_what_is_sent_after_the_offsets_were_read_is_not_waited_for():
    async def check(producer: HeldProducer, outbox: Outbox) -> bool:
        await outbox.send_to("t", 0, records(b"before"))
        settling = asyncio.create_task(outbox.settle(1.0))
        await shipped()
        await outbox.send_to("t", 0, records(b"after"))
        producer.acknowledge(0, 1)
        return await settling

    assert run(check)


def test_settling_does_not_linger():
    async def check(producer: HeldProducer, outbox: Outbox) -> bool:
        await outbox.send_to("t", 0, records(b"1"))
        settling = asyncio.create_task(outbox.settle(10.0))
        await shipped()
        producer.acknowledge(0, 1)
        return await settling

    assert run(check, linger_seconds=3600.0)


def test_a_failed_delivery_shuts_the_gate_for_good():
    failures: list[DeliveryError] = []

    async def check(producer: HeldProducer, outbox: Outbox) -> None:
        failed = await outbox.send_to("alerts", 0, records(b"1"))
        await shipped()
        waits = await outbox.send_to("alerts", 0, records(b"2"))
        producer.sent[0][3].set_exception(OSError("broker gone"))
        await shipped()
        for delivery in (failed, waits):
            with pytest.raises(DeliveryError, match="alerts.*broker gone"):
                await delivery
        with pytest.raises(DeliveryError, match="alerts.*broker gone"):
            await outbox.settle(1.0)
        for sending in (
            outbox.send("alerts", value=b"2"),
            outbox.send_to("alerts", 0, records(b"2")),
        ):
            with pytest.raises(DeliveryError):
                await sending
        await shipped()
        assert producer.values == [[b"1"]]

    run(check, on_failure=failures.append)
    assert len(failures) == 1


def test_a_failure_that_the_loop_has_not_told_yet_is_seen():
    async def check(producer: HeldProducer, outbox: Outbox) -> None:
        await outbox.send("alerts", value=b"1")
        producer.sent[0][3].set_exception(OSError("broker gone"))
        with pytest.raises(DeliveryError, match="alerts.*broker gone"):
            await outbox.settle(1.0)

    run(check)


def test_a_full_outbox_in_which_a_delivery_failed_refuses_the_next_one_at_once():
    async def check(producer: HeldProducer, outbox: Outbox) -> None:
        await outbox.send_to("t", 0, records(b"1"))
        await outbox.send_to("t", 1, records(b"2", b"3"))
        await shipped()
        producer.sent[1][3].set_exception(OSError("broker gone"))
        producer.acknowledge(0, 1)
        await shipped()
        with pytest.raises(DeliveryError):
            await asyncio.wait_for(outbox.send("t", value=b"3"), 1.0)

    run(check, max_records=2)


def test_a_producer_that_refuses_a_batch_shuts_the_gate():
    async def check(producer: HeldProducer, outbox: Outbox) -> None:
        await outbox.send_to("alerts", 0, records(b"1"))
        with pytest.raises(DeliveryError, match="fits no batch"):
            await outbox.settle(1.0)
        assert producer.sent == []

    run(check, room=0)


def test_a_producer_that_refuses_a_record_shuts_the_gate():
    async def check(producer: HeldProducer, outbox: Outbox) -> None:
        async def refuse(topic: str, **_: Any) -> asyncio.Future:
            raise ValueError("too large")

        producer.send = refuse
        with pytest.raises(DeliveryError, match="dead-letters.*too large"):
            await outbox.send("dead-letters", value=b"1")
        with pytest.raises(DeliveryError):
            await outbox.settle(0.0)

    run(check)


def test_a_delivery_that_nobody_waits_for_any_more_still_keeps_the_gate_shut():
    async def check(producer: HeldProducer, outbox: Outbox) -> list[bool]:
        delivery = await outbox.send_to("t", 0, records(b"1"))
        delivery.cancel()
        before = await outbox.settle(0.05)
        producer.acknowledge(0, 5)
        return [before, await outbox.settle(1.0)]

    assert run(check) == [False, True]


# -- how much waits


@pytest.mark.parametrize("bounds", [{"max_records": 2}, {"max_bytes": 8}])
def test_a_full_outbox_makes_the_next_send_wait(bounds: dict[str, int]):
    async def check(producer: HeldProducer, outbox: Outbox) -> list[bool]:
        await outbox.send_to("t", 0, records(b"1"))
        await outbox.send_to("t", 1, records(b"2"))
        third = asyncio.create_task(outbox.send_to("t", 0, records(b"3")))
        await shipped()
        waited = not third.done()
        producer.acknowledge(0, 0)
        await third
        producer.acknowledge(1, 1)
        await shipped()
        producer.acknowledge(2, 2)
        return [waited, await outbox.settle(1.0)]

    assert run(check, **bounds) == [True, True]


@pytest.mark.parametrize(
    ("way", "record"),
    [
        ("send", {"value": b"12345678"}),
        ("send", {"value": None, "key": b"12345678"}),
        ("send_to", {"value": None, "key": b"12345678"}),
    ],
)
def test_records_count_with_their_keys_and_their_values(way: str, record: dict[str, Any]):
    async def check(producer: HeldProducer, outbox: Outbox) -> bool:
        if way == "send":
            await outbox.send("t", **record)
        else:
            await outbox.send_to("t", 0, [Outgoing(**record)])
        second = asyncio.create_task(outbox.send("t", value=b"2"))
        await shipped()
        waited = not second.done()
        producer.acknowledge(0, 0)
        await second
        return waited

    assert run(check, max_bytes=8)


def test_its_length_is_how_many_records_are_not_acknowledged():
    async def check(producer: HeldProducer, outbox: Outbox) -> list[int]:
        await outbox.send("t", value=b"1")
        await outbox.send_to("t", 0, records(b"2", b"3"))
        lengths = [len(outbox)]
        await shipped()
        producer.acknowledge(1, 1)
        await shipped()
        return [*lengths, len(outbox)]

    assert run(check) == [3, 1]


# -- gathering


def test_records_for_a_partition_are_gathered_in_order_while_a_batch_is_on_its_way():
    async def check(producer: HeldProducer, outbox: Outbox) -> None:
        await outbox.send_to("t", 0, records(b"1"))
        await outbox.send_to("t", 0, records(b"2", b"3"))
        await outbox.send_to("t", 1, records(b"other"))
        await shipped()
        assert producer.values == [[b"1", b"2", b"3"], [b"other"]]

        await outbox.send_to("t", 0, records(b"4"))
        await outbox.send_to("t", 0, records(b"5"))
        await shipped()
        assert len(producer.sent) == 2
        producer.acknowledge(0, 10)
        await shipped()
        assert producer.values[2:] == [[b"4", b"5"]]

    run(check)


def test_what_fits_no_batch_together_goes_in_several_and_is_acknowledged_with_the_last():
    acknowledged: list[Acknowledgement] = []

    async def check(producer: HeldProducer, outbox: Outbox) -> None:
        first = await outbox.send_to("t", 7, records(b"1"), acknowledged.append)
        second = await outbox.send_to("t", 7, records(b"2", b"3"), acknowledged.append)
        third = await outbox.send_to("t", 7, records(b"4"), acknowledged.append)
        await shipped()
        producer.acknowledge(0, 40)
        await shipped()
        assert (first.done(), second.done()) == (True, False)
        producer.acknowledge(1, 42)
        assert await outbox.settle(1.0)
        assert producer.values == [[b"1", b"2"], [b"3", b"4"]]
        assert [one.result().offset for one in (first, second, third)] == [40, 42, 43]

    run(check, room=2)
    assert acknowledged == [Acknowledgement("t", 7, offset) for offset in (40, 42, 43)]


def test_keyed_records_go_to_the_partitions_of_their_keys():
    async def check(producer: HeldProducer, outbox: Outbox) -> None:
        outgoing = [Outgoing(b"key %d" % (n % 5), b"%d" % n) for n in range(20)]
        await outbox.send_keyed("t", outgoing)
        await shipped()
        assert {partition: values for _, partition, values, _ in producer.sent} == {
            partition: [o.value for o in outgoing if partition_of(o.key, 3) == partition]
            for partition in {partition_of(o.key, 3) for o in outgoing}
        }
        assert await outbox.send_keyed("t", []) == []

    run(check)


def test_an_acknowledgement_tells_where_the_record_went():
    acknowledged: list[Acknowledgement] = []

    async def check(producer: HeldProducer, outbox: Outbox) -> None:
        await outbox.send("t", value=b"1", on_acknowledged=acknowledged.append)
        producer.acknowledge(0, 42)
        await outbox.settle(1.0)

    run(check)
    assert acknowledged == [Acknowledgement("t", 0, 42)]


@pytest.mark.parametrize(
    ("key", "value", "sent"), [(None, b"1", None), (b"k", None, b"k"), (None, None, b"")]
)
def test_a_record_gets_a_key_only_if_it_has_neither_key_nor_value(
    key: bytes | None, value: bytes | None, sent: bytes | None
):
    """With an empty key, all such records would go to one partition."""

    async def check(producer: HeldProducer, outbox: Outbox) -> list[bytes | None]:
        await outbox.send("t", value=value, key=key)
        return producer.keys

    assert run(check) == [sent]
