"""What keeps a worker from starting, one line each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.config import Settings
from pipeline.errors import EXIT_CANNOT_START, TopologyError
from pipeline.kafka.topics import ClusterTopic, load_topic_specs, topology_findings

SETTINGS = Settings()


def cluster(**changes):
    return {
        spec.name: replace(
            ClusterTopic(
                spec.name, spec.partitions or 4, spec.replication or 1, dict(spec.configs)
            ),
            **changes.get(spec.role, {}),
        )
        for spec in load_topic_specs(None, SETTINGS)
        if changes.get(spec.role, {}) is not None
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ()),
        (
            {"input": None},
            (
                ("input topic logs-endpoint.events.library does not exist: create it, let the shipper create it, "
                "or correct topics.inputs (from default)"),
            ),
        ),
        ({"alerts": None}, ("topic firstseen-alerts does not exist; run: firstseen topics apply",)),
        (
            {"alerts": {"replication": 0}},
            ("topic firstseen-alerts has a partition without a replica: its brokers are gone",),
        ),
        (
            {"quota_changelog": {"partitions": 8}},
            (
                ("topic firstseen-quota-changelog has 8 partitions, but firstseen-new-terms has 12: a table and its "
                "source need as many; raise the smaller one in its topic file and run: firstseen topics apply "
                "--accept-repartition"),
            ),
        ),
        (
            {"first_seen_changelog": {"configs": {"cleanup.policy": "delete"}}},
            (
                ("topic firstseen-first-seen-changelog has cleanup.policy=delete, but a changelog needs compact: else "
                "what was seen is forgotten; run: firstseen topics apply"),
            ),
        ),
        (
            {"dead_letters": {"configs": {"max.message.bytes": "1048588"}}},
            (
                ("topic firstseen-dead-letters takes records of at most 1048588 bytes (max.message.bytes), but "
                "kafka.message_max_bytes is 2097152; run: firstseen topics apply, or lower "
                "kafka.message_max_bytes and stream.max_event_bytes"),
            ),
        ),
        ({"first_seen_changelog": {"configs": {}}}, ()),
        ({"observations": {"partitions": 24}, "first_seen_changelog": {"partitions": 24}}, ()),
    ],
)  # fmt: skip
def test_a_topic_that_does_not_fit_is_named_with_the_remedy(changes, expected):
    assert expected == topology_findings(SETTINGS, cluster(**changes))


def test_everything_that_is_missing_is_told_at_once():
    assert 8 == len(topology_findings(SETTINGS, {}))


def test_a_topology_that_does_not_fit_keeps_the_worker_from_starting():
    assert EXIT_CANNOT_START == TopologyError.exit_code
