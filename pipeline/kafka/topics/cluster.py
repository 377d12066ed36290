"""What the cluster has: its id, and topics with their partitions, replicas and configs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType, TopicMetadata

from pipeline.config import Settings
from pipeline.kafka.clients import CONNECT_TIMEOUT, broker_errors
from pipeline.kafka.visibility import check_visible


@dataclass(frozen=True, slots=True)
class ClusterTopic:
    """A topic as it is in the cluster.

    Attributes:
        name: its name.
        id: the id that Kafka gives it when it is created, and never again; empty if it has none.
        partitions: how many partitions it has.
        replication: the smallest number of replicas of any partition.
        configs: effective configs by Kafka's names; empty if we may not read them.
        leaderless: the partitions that no broker leads, so that nobody can read or write them.
    """

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str]
    id: str = ""
    leaderless: tuple[int, ...] = ()


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
    ids = topic_ids(admin, found)
    topics = {
        name: ClusterTopic(
            name=name,
            partitions=len(topic.partitions),
            replication=min((len(p.replicas) for p in topic.partitions.values()), default=0),
            configs=configs.get(name, {}),
            id=ids.get(name, ""),
            leaderless=_leaderless(topic),
        )
        for name, topic in found.items()
    }
    return Cluster(metadata.cluster_id or "", topics)


def topic_ids(admin: AdminClient, names: Iterable[str]) -> dict[str, str]:
    """Return the ids of those of the named topics that exist and have one.

    Brokers before Kafka 2.8 give none. A topic that was created a moment ago may be left out.

    Raises:
        KafkaException: no broker answers.
    """
    wanted = list(names)
    if not wanted:
        return {}
    answers = admin.describe_topics(TopicCollection(wanted), request_timeout=CONNECT_TIMEOUT)
    ids: dict[str, str] = {}
    for name, answer in answers.items():
        error = answer.exception()
        if error is None:
            topic_id = answer.result().topic_id
            if topic_id.get_most_significant_bits() or topic_id.get_least_significant_bits():
                ids[name] = str(topic_id)
        elif error.args[0].code() < 0:  # librdkafka's own: no broker has answered
            raise error
    return ids


def _leaderless(topic: TopicMetadata) -> tuple[int, ...]:
    """Return the partitions of a topic that no broker leads."""
    return tuple(sorted(number for number, each in topic.partitions.items() if each.leader < 0))


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
