"""What `topics apply` would do: create, raise, set; never delete, never shrink."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

from pipeline.config import Settings
from pipeline.kafka.topics import ClusterTopic, load_topic_specs, plan, render_strimzi

SPECS = load_topic_specs(None, Settings())
SPEC = {spec.role: spec for spec in SPECS}
INPUT = "logs-endpoint.events.library"


def cluster(**changes):
    """A cluster as the files say, with changes by role; None: the topic is missing."""
    topics = {}
    for spec in SPECS:
        topic = ClusterTopic(
            spec.name, spec.partitions or 4, spec.replication or 1, dict(spec.configs)
        )
        change = changes.get(spec.role, {})
        if change is not None:
            topics[spec.name] = replace(topic, **change)
    return topics


def steps(result):
    return [
        (change.action, change.topic, change.what, change.now, change.wanted)
        for change in result.changes
    ]


def findings(result):
    return [(finding.code, finding.severity, finding.topic) for finding in result.findings]


def test_a_cluster_as_the_files_say_needs_nothing():
    result = plan(SPECS, cluster())

    assert ((), ()) == (result.changes, result.findings)
    assert "Nothing to do: the topics are as their files say." == result.to_text()


def test_an_empty_cluster_gets_all_topics_but_the_inputs():
    result = plan(SPECS, {})

    assert [("create", spec.name) for spec in SPECS if not spec.external] == [
        step[:2] for step in steps(result)
    ]
    assert [("missing_input", "error", INPUT)] == findings(result)
    assert result.has_errors


def test_partitions_that_nobody_leads_are_named():
    result = plan(SPECS, cluster(alerts={"leaderless": (1, 4)}, input={"leaderless": (2,)}))

    assert [("no_leader", "error", INPUT), ("no_leader", "error", "firstseen-alerts")] == findings(
        result
    )
    assert "has no leader for partitions 1, 4, so nobody can read or write them" in result.to_text()
    assert "has no leader for partition 2, so" in result.to_text()


def test_topics_of_others_are_left_alone():
    others = {**cluster(), "other": ClusterTopic("other", 1, 1, {})}

    assert () == plan(SPECS, others).changes


def test_configs_that_differ_are_set_and_others_stay():
    configs = {**SPEC["alerts"].configs, "retention.ms": "1", "segment.ms": "5"}

    result = plan(SPECS, cluster(alerts={"configs": configs}))

    assert [("set_config", "firstseen-alerts", "retention.ms", "1", "2592000000")] == steps(result)


def test_partitions_are_raised_where_no_state_depends_on_them():
    result = plan(SPECS, cluster(alerts={"partitions": 6}))

    assert [("raise_partitions", "firstseen-alerts", "partitions", "6", "12")] == steps(result)


@pytest.mark.parametrize(
    "role", ["observations", "new_terms", "first_seen_changelog", "quota_changelog"]
)
def test_partitions_are_not_raised_where_keys_would_leave_their_history(role):
    result = plan(SPECS, cluster(**{role: {"partitions": 6}}))

    assert ([], [("repartition_refused", "error", SPEC[role].name)]) == (
        steps(result),
        findings(result),
    )


def test_partitions_with_state_are_raised_when_that_is_accepted():
    few = {"observations": {"partitions": 6}, "first_seen_changelog": {"partitions": 6}}

    result = plan(SPECS, cluster(**few), accept_repartition=True)

    assert ["firstseen-observations", "firstseen-first-seen-changelog"] == [
        step[1] for step in steps(result)
    ]
    assert not result.has_errors


def test_no_topic_ever_shrinks():
    result = plan(SPECS, cluster(alerts={"partitions": 24}), accept_repartition=True)

    assert ([], [("more_partitions", "warning", "firstseen-alerts")]) == (
        steps(result),
        findings(result),
    )


def test_a_changelog_is_not_created_beside_a_source_of_another_size():
    result = plan(SPECS, cluster(observations={"partitions": 24}, first_seen_changelog=None))

    assert [] == steps(result)
    assert ("repartition_refused", "error", "firstseen-first-seen-changelog") in findings(result)


def test_a_source_is_not_created_beside_a_changelog_of_another_size():
    result = plan(SPECS, cluster(new_terms=None, quota_changelog={"partitions": 24}))

    assert ("repartition_refused", "error", "firstseen-new-terms") in findings(result)


def test_a_changelog_that_is_missing_is_created_beside_its_source():
    result = plan(SPECS, cluster(first_seen_changelog=None))

    assert [
        ("create", "firstseen-first-seen-changelog", "partitions x replication", "", "12 x 3")
    ] == steps(result)


@pytest.mark.parametrize(
    ("role", "fewer"),
    [
        ("observations", "first_seen_changelog"),
        ("first_seen_changelog", "observations"),
        ("new_terms", "quota_changelog"),
        ("quota_changelog", "new_terms"),
    ],
)
def test_partitions_that_somebody_added_to_one_of_a_pair_are_an_error(role, fewer):
    result = plan(SPECS, cluster(**{role: {"partitions": 14}}))

    assert ("partitions_unequal", "error", SPEC[fewer].name) in findings(result)
    assert result.has_errors
    (text,) = [f.message for f in result.findings if f.code == "partitions_unequal"]
    assert f"{SPEC[fewer].name} has 12 partitions, but {SPEC[role].name} has 14" in text


def test_a_pair_that_the_plan_makes_equal_is_no_error():
    specs = [
        replace(spec, partitions=14) if spec.role.startswith(("obs", "first")) else spec
        for spec in SPECS
    ]
    added = cluster(observations={"partitions": 14})

    assert not plan(specs, added, accept_repartition=True).has_errors
    assert ["repartition_refused"] == [code for code, *_ in findings(plan(specs, added))]


def test_other_numbers_of_copies_are_told_and_not_changed():
    result = plan(SPECS, cluster(alerts={"replication": 1}))

    assert ([], [("replication_differs", "warning", "firstseen-alerts")]) == (
        steps(result),
        findings(result),
    )


def test_configs_that_cannot_be_read_are_told():
    result = plan(SPECS, cluster(alerts={"configs": {}}))

    assert ([], [("configs_unreadable", "warning", "firstseen-alerts")]) == (
        steps(result),
        findings(result),
    )


def test_an_input_is_advised_and_never_changed():
    result = plan(SPECS, cluster(input={"configs": {"message.timestamp.type": "CreateTime"}}))

    assert ([], [("input_config_differs", "info", INPUT)]) == (steps(result), findings(result))
    assert not result.has_errors


def test_a_plan_is_plain_data():
    data = json.loads(
        json.dumps(plan(SPECS, cluster(input=None, alerts={"partitions": 6})).to_dict())
    )

    assert {
        "action": "raise_partitions",
        "topic": "firstseen-alerts",
        "what": "partitions",
        "now": "6",
        "wanted": "12",
    } == data["changes"][0]
    assert ("missing_input", "error", INPUT) == tuple(
        data["findings"][0][key] for key in ("code", "severity", "topic")
    )


def test_a_plan_is_a_table_for_people():
    text = plan(SPECS, cluster(input=None, dead_letters=None)).to_text()

    assert (
        "ACTION  TOPIC                   WHAT                      NOW  WANTED\n"
        "create  firstseen-dead-letters  partitions x replication  -    12 x 3\n"
        f"error: input topic {INPUT} does not exist: create it, let the shipper create it, or correct "
        "topics.inputs (missing_input)"
    ) == text


def test_findings_alone_need_no_table():
    assert plan(SPECS, cluster(input=None)).to_text().startswith("error: ")


def test_strimzi_gets_our_topics_as_objects():
    documents = list(yaml.safe_load_all(render_strimzi(SPECS, cluster="soc")))

    assert {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaTopic",
        "metadata": {
            "name": "firstseen-first-seen-changelog",
            "labels": {"strimzi.io/cluster": "soc"},
        },
        "spec": {
            "topicName": "firstseen-first-seen-changelog",
            "partitions": 12,
            "replicas": 3,
            "config": {
                "min.insync.replicas": 2,
                "max.message.bytes": 2_162_688,
                "message.timestamp.type": "LogAppendTime",
                "cleanup.policy": "compact",
                "segment.bytes": 104_857_600,
                "delete.retention.ms": 604_800_000,
            },
        },
    } in documents
    assert [spec.name for spec in SPECS if not spec.external] == [
        doc["spec"]["topicName"] for doc in documents
    ]


def test_an_object_is_named_as_kubernetes_allows():
    spec = replace(SPEC["alerts"], name="SOC_Alerts.")

    (document,) = yaml.safe_load_all(render_strimzi([spec]))

    assert ("soc-alerts", "SOC_Alerts.") == (
        document["metadata"]["name"],
        document["spec"]["topicName"],
    )
