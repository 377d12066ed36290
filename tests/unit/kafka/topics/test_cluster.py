"""What is read of the cluster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pipeline.kafka.topics.cluster import read_cluster

METADATA = SimpleNamespace(
    cluster_id="c",
    topics={
        "t": SimpleNamespace(
            error=None,
            partitions={
                number: SimpleNamespace(leader=leader, replicas=[1, 2])
                for number, leader in ((0, 1), (3, -1), (1, -1), (2, 2))
            },
        )
    },
)


def test_partitions_that_no_broker_leads_are_noticed() -> None:
    admin: Any = SimpleNamespace(
        list_topics=lambda timeout: METADATA,  # noqa: ARG005
        describe_configs=lambda resources, request_timeout: {},  # noqa: ARG005
        describe_topics=lambda names, request_timeout: {},  # noqa: ARG005
    )
    found = read_cluster(admin, ["t"]).topics["t"]
    assert (found.partitions, found.replication, found.leaderless) == (4, 2, (1, 3))
