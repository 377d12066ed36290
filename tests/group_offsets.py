"""What a consumer group has committed, and where the partitions end."""

from __future__ import annotations

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.clients import SECONDS, client_config
from tests.deployment import Deployment

Offsets = dict[tuple[str, int], int]
"""The next offset to read by topic and partition; partitions at 0 are left out."""


def committed(deployment: Deployment, group: str | None = None) -> Offsets:
    """Return what the workers, or another group, have committed."""
    admin = AdminClient(client_config(deployment.broker.bootstrap))
    group = group or deployment.prefix
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
    answer = asked[group].result(SECONDS)
    return {(p.topic, p.partition): p.offset for p in answer.topic_partitions or () if p.offset > 0}


def ends(deployment: Deployment, *topics: str) -> Offsets:
    """Return the end of each partition of these topics, control records included."""
    admin = AdminClient(client_config(deployment.broker.bootstrap))
    partitions = [
        TopicPartition(topic, number)
        for topic in topics
        for number in admin.list_topics(topic, timeout=SECONDS).topics[topic].partitions
    ]
    asked = admin.list_offsets({partition: OffsetSpec.latest() for partition in partitions})
    return {
        (partition.topic, partition.partition): result.result(SECONDS).offset
        for partition, result in asked.items()
        if result.result(SECONDS).offset > 0
    }


def all_committed(deployment: Deployment) -> bool:
    """Whether everything in the inputs and between the stages is handled and committed.

    What is committed is read first: if it equals an end that is read later, that end was final,
    since a commit follows the acknowledgement of all that was produced for it.
    """
    before = committed(deployment)
    inputs = deployment.env["FIRSTSEEN_TOPICS__INPUTS"].split(",")
    between = (deployment.topic("observations"), deployment.topic("new_terms"))
    return before == ends(deployment, *inputs, *between)
