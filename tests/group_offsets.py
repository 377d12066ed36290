"""What a consumer group has committed, and where the partitions end."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.config import Settings
from pipeline.kafka.groups import GroupOffsets
from tests.clients import SECONDS, client_config

if TYPE_CHECKING:
    from tests.deployment import Deployment

Offsets = dict[tuple[str, int], int]
"""The next offset to read by topic and partition; partitions at 0 are left out."""


def committed(deployment: Deployment) -> Offsets:
    """Return what the workers have committed of their inputs and between the stages.

    Raises:
        BrokerError: no answer in time, or another error.
    """
    config = {**client_config(deployment.broker.bootstrap), "group.id": deployment.prefix}
    with closing(Consumer(config)) as client:
        topics = client.list_topics(timeout=SECONDS).topics
        places = [
            (topic, number) for topic in _sources(deployment) for number in topics[topic].partitions
        ]
        answer = GroupOffsets(Settings(), client, deployment.prefix).read(places)
    return {(p.topic, p.partition): p.offset for p in answer if p.offset > 0}


def ends(
    deployment: Deployment,
    *topics: str,
    admin: AdminClient | None = None,
) -> Offsets:
    """Return the end of each partition of these topics, control records included."""
    admin = admin or _admin(deployment)
    partitions = [
        TopicPartition(topic, number)
        for topic in topics
        for number in admin.list_topics(topic, timeout=SECONDS).topics[topic].partitions
    ]
    asked = admin.list_offsets(
        {partition: OffsetSpec.latest() for partition in partitions}, request_timeout=SECONDS
    )
    found = {(p.topic, p.partition): answer.result().offset for p, answer in asked.items()}
    return {place: offset for place, offset in found.items() if offset > 0}


def all_committed(deployment: Deployment, admin: AdminClient | None = None) -> bool:
    """Whether everything in the inputs and between the stages is handled and committed.

    What is committed is read first: if it equals an end that is read later, that end was final,
    since a commit follows the acknowledgement of all that was produced for it.
    """
    admin = admin or _admin(deployment)
    before = committed(deployment)
    return before == ends(deployment, *_sources(deployment), admin=admin)


def _sources(deployment: Deployment) -> list[str]:
    """Return the topics that the workers read."""
    inputs = deployment.env["FIRSTSEEN_TOPICS__INPUTS"].split(",")
    return [*inputs, deployment.topic("observations"), deployment.topic("new_terms")]


def _admin(deployment: Deployment) -> AdminClient:
    return AdminClient(client_config(deployment.broker.bootstrap))
