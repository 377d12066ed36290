"""What the cluster has: its id, and topics with their partitions, replicas and configs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from pipeline.config import Settings
from pipeline.kafka.clients import CONNECT_TIMEOUT, broker_errors
from pipeline.kafka.visibility import check_visible


@dataclass(frozen=True, slots=True)
class ClusterTopic:
    """A topic as it is in the cluster.

    Attributes:
        name: its name.
        partitions: how many partitions it has.
        replication: the smallest number of replicas of any partition.
        configs: effective configs by Kafka's names; empty if we may not read them.
    """

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, and what was asked for of its topics.

    Attributes:
        id: the id that the brokers give it, which it keeps for life; empty if it has none.
        topics: those of the named topics that exist, by name.
    """

    id: str
    topics: Mapping[str, ClusterTopic]


def describe_cluster(admin: AdminClient, settings: Settings, names: Iterable[str]) -> Cluster:
    """Describe the cluster and those of the named topics that exist.

    Raises:
        BrokerError: the broker refuses to answer, or hides a topic.
    """
    names = tuple(names)
    with broker_errors(settings, "listing topics"):
        found = read_cluster(admin, names)
    check_visible(settings, [name for name in names if name not in found.topics], admin)
    return found


def read_cluster(admin: AdminClient, names: Iterable[str]) -> Cluster:
    """Do what `describe_cluster` does, but raise KafkaException."""
    wanted = frozenset(names)
    # The metadata of all topics is requested, because a request for one could create it.
    metadata = admin.list_topics(timeout=CONNECT_TIMEOUT)
    found = {
        name: topic
        for name, topic in metadata.topics.items()
        if name in wanted and topic.error is None
    }
    configs = _describe_configs(admin, found)
    topics = {
        name: ClusterTopic(
            name=name,
            partitions=len(topic.partitions),
            replication=min((len(p.replicas) for p in topic.partitions.values()), default=0),
            configs=configs.get(name, {}),
        )
        for name, topic in found.items()
    }
    return Cluster(metadata.cluster_id or "", topics)


def _describe_configs(admin: AdminClient, names: Iterable[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    if not resources:
        return {}
    configs: dict[str, dict[str, str]] = {}
    answers = admin.describe_configs(resources, request_timeout=CONNECT_TIMEOUT)
    for resource, answer in answers.items():
        try:
            entries = answer.result()
        except KafkaException:
            # The DescribeConfigs permission is separate from Describe, and no worker needs it.
            # Configs that cannot be read are not compared, and the plan says so.
            continue
        configs[resource.name] = {
            name: entry.value for name, entry in entries.items() if entry.value is not None
        }
    return configs
