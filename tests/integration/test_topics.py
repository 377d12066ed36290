"""Topics as code against a broker: planned, applied, checked."""

from __future__ import annotations

import dataclasses

import pytest

from pipeline.config import Settings
from pipeline.errors import BrokerError, TopologyError
from pipeline.kafka.clients import admin_client, consumer, producer
from pipeline.kafka.topics import (
    apply,
    check_topology,
    describe_cluster,
    load_topic_specs,
    plan,
)
from tests.clients import create_topic


@pytest.fixture
def settings(broker, prefix):
    """Topics and a group of this test alone, on a cluster of one."""
    topics = ("observations", "new_terms", "alerts", "overflow", "dead_letters")
    overrides = {
        "kafka.bootstrap_servers": broker.bootstrap,
        "kafka.group_id": prefix,
        "topics.inputs": [f"{prefix}-input"],
        "topics.replication": 1,
        **{f"topics.{topic}": f"{prefix}-{topic.replace('_', '-')}" for topic in topics},
    }
    return Settings.load(None, overrides, {})


@pytest.fixture
def admin(settings):
    return admin_client(settings)


@pytest.fixture
def specs(settings):
    return [
        dataclasses.replace(spec, partitions=spec.partitions and 3)
        for spec in load_topic_specs(None, settings)
    ]


@pytest.fixture
def make_plan(settings, admin, specs):
    def make(changed=None, **options):
        wanted = changed or specs
        return plan(
            wanted,
            describe_cluster(admin, settings, [spec.name for spec in wanted]).topics,
            **options,
        )

    return make


def change(specs, role, **changes):
    return [dataclasses.replace(spec, **changes) if spec.role == role else spec for spec in specs]


def names(result):
    return {(step.action, step.topic, step.what) for step in result.changes}


def test_a_second_apply_has_nothing_left_to_do(broker, make_plan, admin, settings, specs):
    create_topic(broker.bootstrap, settings.topics.inputs[0])

    apply(make_plan(), admin)

    again = make_plan()
    assert set() == names(again)
    assert not again.has_errors


def test_a_worker_finds_applied_topics_in_order(broker, make_plan, admin, settings, specs):
    create_topic(broker.bootstrap, settings.topics.inputs[0], partitions=2)
    apply(make_plan(), admin)

    found = check_topology(settings)

    assert found.id == admin.list_topics(timeout=10).cluster_id
    assert {settings.topics.inputs[0]: 2} | {
        spec.name: 3 for spec in specs if not spec.external
    } == {name: topic.partitions for name, topic in found.topics.items()}


def test_a_worker_is_told_of_every_topic_that_is_missing(settings):
    with pytest.raises(TopologyError) as caught:
        check_topology(settings)

    assert 8 == len(str(caught.value).splitlines())


def test_a_missing_topic_is_not_created_by_asking(settings, admin):
    wanted = [settings.topics.alerts]
    describe_cluster(admin, settings, wanted)

    assert {} == describe_cluster(admin, settings, wanted).topics


def test_a_record_of_the_largest_size_is_taken(make_plan, admin, settings):
    apply(make_plan(), admin)
    failures = []
    writer = producer(settings, compression_type="none")

    writer.produce(
        settings.topics.alerts,
        b"x" * (settings.kafka.message_max_bytes - 200),
        on_delivery=lambda error, _: failures.append(error),
    )

    assert 0 == writer.flush(30)
    assert [None] == failures


def test_a_consumer_commits_nothing_on_its_own_and_starts_at_the_beginning(
    make_plan, admin, settings
):
    apply(make_plan(), admin)
    writer = producer(settings)
    writer.produce(settings.topics.alerts, b"x")
    writer.flush(30)
    reader = consumer(settings)
    reader.subscribe([settings.topics.alerts])

    record = next(r for r in iter(lambda: reader.poll(30), object()) if r is None or not r.error())

    assert b"x" == record.value()
    reader.close()


def _need_apache(broker):
    if not broker.is_apache:
        pytest.skip("topic configs and partitions are changed on Apache Kafka only")


def test_configs_that_somebody_changed_are_set_back_and_others_are_kept(
    broker, make_plan, admin, settings, specs
):
    _need_apache(broker)
    apply(make_plan(), admin)
    alerts = next(spec for spec in specs if spec.role == "alerts")
    other = change(
        specs, "alerts", configs={**alerts.configs, "retention.ms": "1", "segment.ms": "86400000"}
    )
    apply(make_plan(other), admin)

    first = make_plan()
    apply(first, admin)

    assert {("set_config", settings.topics.alerts, "retention.ms")} == names(first)
    alerts_topic = settings.topics.alerts
    kept = describe_cluster(admin, settings, [alerts_topic]).topics[alerts_topic].configs
    assert ("2592000000", "86400000") == (kept["retention.ms"], kept["segment.ms"])


def test_partitions_are_raised_and_never_taken_away(broker, make_plan, admin, settings, specs):
    _need_apache(broker)
    apply(make_plan(), admin)

    apply(make_plan(change(specs, "alerts", partitions=5)), admin)

    after = make_plan()
    assert set() == names(after)
    assert {"more_partitions"} <= {finding.code for finding in after.findings}


def test_partitions_with_state_are_raised_only_when_that_is_accepted(
    broker, make_plan, admin, settings, specs
):
    _need_apache(broker)
    apply(make_plan(), admin)
    more = change(change(specs, "new_terms", partitions=5), "quota_changelog", partitions=5)

    assert set() == names(make_plan(more))
    apply(make_plan(more, accept_repartition=True), admin)

    found = describe_cluster(admin, settings, [settings.topics.new_terms, settings.quota_changelog])
    assert {5} == {topic.partitions for topic in found.topics.values()}


def test_a_worker_refuses_a_changelog_that_forgets(broker, make_plan, admin, settings, specs):
    _need_apache(broker)
    create_topic(broker.bootstrap, settings.topics.inputs[0])
    forgetful = change(
        specs,
        "first_seen_changelog",
        configs={"cleanup.policy": "delete", "max.message.bytes": "2162688"},
    )
    apply(make_plan(forgetful), admin)

    with pytest.raises(
        TopologyError, match="has cleanup.policy=delete, but a changelog needs compact"
    ):
        check_topology(settings)


def test_what_the_cluster_refuses_is_told_and_the_rest_is_done(
    broker, make_plan, admin, settings, specs
):
    _need_apache(broker)
    wrong = change(specs, "alerts", configs={"no.such.config": "1"})

    with pytest.raises(
        BrokerError, match=f"topic {settings.topics.alerts}: create was refused: .*no.such.config"
    ):
        apply(make_plan(wrong), admin)

    assert {("create", settings.topics.alerts, "partitions x replication")} == names(make_plan())
