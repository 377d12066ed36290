"""The check that a worker makes before it starts: do the topics exist, and do they fit together?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.config import Settings
from pipeline.errors import TopologyError
from pipeline.kafka.clients import admin_client
from pipeline.kafka.topics.cluster import Cluster, ClusterTopic, describe_cluster
from pipeline.kafka.topics.spec import CHANGELOG_SOURCES, unequal_pairs

_APPLY = "run: firstseen topics apply"


def check_topology(settings: Settings) -> Cluster:
    """Check every topic that the worker uses.

    Returns:
        The cluster, with these topics.

    Raises:
        TopologyError: one line per finding: the topic, what is, what should be, what to do.
        BrokerUnreachableError: no broker answered.
    """
    admin = admin_client(settings)
    names = (*settings.topics.inputs, *settings.topic_names().values())
    cluster = describe_cluster(admin, settings, names)
    if findings := topology_findings(settings, cluster.topics):
        raise TopologyError("\n".join(findings))
    return cluster


def topology_findings(settings: Settings, cluster: Mapping[str, ClusterTopic]) -> tuple[str, ...]:
    """Return what keeps a worker from starting, one line each; empty if nothing does."""
    return (
        *_missing(settings, cluster),
        *_partition_counts(settings, cluster),
        *_not_compacted(settings, cluster),
        *_too_small_records(settings, cluster),
    )


def _missing(settings: Settings, cluster: Mapping[str, ClusterTopic]) -> Iterator[str]:
    for name in settings.topics.inputs:
        if name not in cluster:
            yield (
                f"input topic {name} does not exist: create it, let the shipper create it, or "
                f"correct topics.inputs (from {settings.source('topics.inputs')})"
            )
    for name in settings.topic_names().values():
        if name not in cluster:
            yield f"topic {name} does not exist; {_APPLY}"
        elif cluster[name].replication < 1:
            yield f"topic {name} has a partition without a replica: its brokers are gone"


def _partition_counts(settings: Settings, cluster: Mapping[str, ClusterTopic]) -> Iterator[str]:
    counts = {name: topic.partitions for name, topic in cluster.items()}
    for changelog, source in unequal_pairs(settings.topic_names(), counts):
        yield (
            f"topic {changelog} has {counts[changelog]} partitions, but {source} has "
            f"{counts[source]}: a table and its source need as many; raise the smaller one in its "
            "topic file and run: firstseen topics apply --accept-repartition"
        )


def _not_compacted(settings: Settings, cluster: Mapping[str, ClusterTopic]) -> Iterator[str]:
    names = settings.topic_names()
    for role in CHANGELOG_SOURCES:
        topic = cluster.get(names[role])
        policy = topic.configs.get("cleanup.policy") if topic else None
        # Unknown (no permission to read configs, or a broker without any) is not a finding.
        if topic and policy is not None and policy != "compact":
            yield (
                f"topic {topic.name} has cleanup.policy={policy}, but a changelog needs compact: "
                f"else what was seen is forgotten; {_APPLY}"
            )


def _too_small_records(settings: Settings, cluster: Mapping[str, ClusterTopic]) -> Iterator[str]:
    needed = settings.kafka.message_max_bytes
    for name in settings.topic_names().values():
        topic = cluster.get(name)
        limit = topic.configs.get("max.message.bytes") if topic else None
        if limit is not None and int(limit) < needed:
            yield (
                f"topic {name} takes records of at most {limit} bytes (max.message.bytes), but "
                f"kafka.message_max_bytes is {needed}; {_APPLY}, or lower "
                "kafka.message_max_bytes and stream.max_event_bytes"
            )
