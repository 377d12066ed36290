"""Topics as code: the topic files, what the cluster has, and what to change."""

from __future__ import annotations

from pipeline.kafka.topics.apply import apply
from pipeline.kafka.topics.cluster import (
    Cluster,
    ClusterTopic,
    describe_cluster,
    topic_ids,
)
from pipeline.kafka.topics.plan import Change, Finding, Plan, plan
from pipeline.kafka.topics.render import render_strimzi
from pipeline.kafka.topics.spec import TopicSpec, load_topic_specs, topics_directory
from pipeline.kafka.topics.topology import check_topology, topology_findings

__all__ = [
    "Change",
    "Cluster",
    "ClusterTopic",
    "Finding",
    "Plan",
    "TopicSpec",
    "apply",
    "check_topology",
    "describe_cluster",
    "load_topic_specs",
    "plan",
    "render_strimzi",
    "topic_ids",
    "topics_directory",
    "topology_findings",
]
