"""Bundles on their way from the fetcher to the agents: together, and in portions of a bounded size."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pipeline.record import Position
from pipeline.stream.transport.bundles import (
    MAX_BUNDLE_BYTES,
    MAX_BUNDLE_RECORDS,
    Bundle,
    BundleBuffer,
    carriers,
)

OURS = "observations"


def message(offset: int, partition: int = 0, topic: str = OURS) -> Any:
    return SimpleNamespace(topic=topic, partition=partition, offset=offset)


def test_the_first_message_of_a_topic_carries_the_others_of_all_its_partitions() -> None:
    first, second, third = message(5), message(9), message(2, partition=1)
    other = message(0, topic="new_terms")

    handed_over = carriers([first, other, second, third], lambda _topic: True)

    assert [first, other] == handed_over
    assert [second, third] == first.others
    assert [] == other.others


def test_messages_of_topics_without_bundles_are_handed_over_one_by_one() -> None:
    messages = [message(offset, topic="changelog") for offset in range(3)]

    assert messages == carriers(messages, lambda topic: topic == OURS)


def put(bundle_buffer: BundleBuffer, each: Any, records: int, size: int = 1) -> None:
    bundle = Bundle(tuple(f"{each.partition}/{each.offset}" for _ in range(records)), size, records)
    bundle_buffer.put(Position(each.topic, each.partition, each.offset), bundle)


def portions(bundle_buffer: BundleBuffer, messages: list[Any]) -> list[list[Any]]:
    """Return the messages of each portion that an agent handles."""
    return [[bundle.message for bundle in portion] for portion in bundle_buffer.portions(messages)]


def test_small_bundles_are_handled_together() -> None:
    bundle_buffer, messages = (
        BundleBuffer(1 << 20),
        [message(1), message(1, partition=1), message(7)],
    )
    for each in messages:
        put(bundle_buffer, each, 2)

    assert [messages] == portions(bundle_buffer, messages)


def test_a_portion_ends_with_the_bundle_that_fills_it() -> None:
    bundle_buffer, messages = BundleBuffer(1 << 20), [message(offset) for offset in range(4)]
    for each, records in zip(
        messages, (1, MAX_BUNDLE_RECORDS - 1, MAX_BUNDLE_RECORDS, 1), strict=True
    ):
        put(bundle_buffer, each, records)

    assert [messages[:2], messages[2:3], messages[3:]] == portions(bundle_buffer, messages)


def test_a_portion_ends_where_its_bytes_do() -> None:
    bundle_buffer, messages = BundleBuffer(1 << 30), [message(offset) for offset in range(3)]
    for each in messages:
        put(bundle_buffer, each, 1, size=MAX_BUNDLE_BYTES // 2)

    assert [messages[:2], messages[2:]] == portions(bundle_buffer, messages)


def test_bundles_that_were_forgotten_are_left_out() -> None:
    bundle_buffer, messages = (
        BundleBuffer(1 << 20),
        [message(1), message(1, partition=1), message(7)],
    )
    for each in messages:
        put(bundle_buffer, each, 1)
    bundle_buffer.forget([(OURS, 0)])

    assert [[messages[1]]] == portions(bundle_buffer, messages)


def test_nothing_is_handled_where_all_bundles_were_forgotten() -> None:
    bundle_buffer, messages = BundleBuffer(1 << 20), [message(1), message(2)]

    assert [] == portions(bundle_buffer, messages)


def test_bundles_that_are_forgotten_while_others_are_handled_are_left_out() -> None:
    """A rebalance may come between two portions."""
    bundle_buffer, messages = BundleBuffer(1 << 20), [message(1), message(1, partition=1)]
    for each in messages:
        put(bundle_buffer, each, MAX_BUNDLE_RECORDS)
    portions_left = bundle_buffer.portions(messages)

    assert [messages[0]] == [bundle.message for bundle in next(portions_left)]
    bundle_buffer.forget([(OURS, 1)])
    assert [] == list(portions_left)
