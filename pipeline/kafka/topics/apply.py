"""Applies a plan to the cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from time import monotonic, sleep
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from pipeline.errors import BrokerError
from pipeline.kafka.topics.cluster import ClusterTopic, read_cluster
from pipeline.kafka.topics.plan import Change, Plan

_TIMEOUT = 30.0
"""Seconds for the controller to change the topics and inform the brokers."""

_LOOK_AGAIN = 0.1


def apply(plan: Plan, admin: AdminClient) -> None:
    """Make all changes of a plan, and wait until the brokers know of them.

    Findings are left alone. If a change fails, the remaining ones are still tried; a second run
    does what is left.

    Raises:
        BrokerError: with one line for each change that the cluster refused.
    """
    problems: list[str] = []
    made: list[Change] = []
    for action, run in (
        ("create", _create),
        ("raise_partitions", _raise_partitions),
        ("set_config", _set_configs),
    ):
        changes = [change for change in plan.changes if change.action == action]
        if changes:
            refused = _refused(action, run(admin, changes))
            problems += refused.values()
            made += [change for change in changes if change.topic not in refused]
    problems += _wait_until_visible(admin, made)
    if problems:
        raise BrokerError("\n".join(problems))


def _create(admin: AdminClient, changes: Iterable[Change]) -> Mapping[str, Any]:
    topics = [
        NewTopic(
            change.topic,
            num_partitions=change.spec.partitions,
            replication_factor=change.spec.replication,
            config=dict(change.spec.configs),
        )
        for change in changes
    ]
    answers: Mapping[str, Any] = admin.create_topics(
        topics, operation_timeout=_TIMEOUT, request_timeout=_TIMEOUT
    )
    return answers


def _raise_partitions(admin: AdminClient, changes: Iterable[Change]) -> Mapping[str, Any]:
    partitions = [NewPartitions(change.topic, change.spec.partitions) for change in changes]
    answers: Mapping[str, Any] = admin.create_partitions(
        partitions, operation_timeout=_TIMEOUT, request_timeout=_TIMEOUT
    )
    return answers


def _set_configs(admin: AdminClient, changes: Iterable[Change]) -> Mapping[str, Any]:
    by_topic: dict[str, list[ConfigEntry]] = defaultdict(list)
    for change in changes:
        # Incremental: configs that others have set on the topic stay.
        entry = ConfigEntry(change.what, change.wanted, incremental_operation=AlterConfigOpType.SET)
        by_topic[change.topic].append(entry)
    resources = [
        ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        for topic, entries in by_topic.items()
    ]
    answers = admin.incremental_alter_configs(resources, request_timeout=_TIMEOUT)
    return {resource.name: answer for resource, answer in answers.items()}


def _refused(action: str, answers: Mapping[str, Any]) -> dict[str, str]:
    """Return the topics whose change the cluster refused, with a message for each."""
    refused = {}
    for topic, answer in answers.items():
        try:
            answer.result()
        except KafkaException as error:
            refused[topic] = f"topic {topic}: {action} was refused: {error.args[0].str()}"
    return refused


def _wait_until_visible(admin: AdminClient, changes: list[Change]) -> list[str]:
    """Wait until what the controller has accepted has reached the broker that answers us.

    That takes a moment. A worker that is started before would still see the old topics.
    """
    deadline = monotonic() + _TIMEOUT
    while changes:
        try:
            topics = read_cluster(admin, {change.topic for change in changes}).topics
        except KafkaException as error:
            return [f"the changes are made, but cannot be looked at: {error.args[0].str()}"]
        changes = [change for change in changes if not _is_visible(change, topics)]
        if changes and monotonic() > deadline:
            return [
                f"topic {change.topic}: {change.action} was accepted, but is not to be seen after "
                f"{_TIMEOUT:g} s; run firstseen topics plan"
                for change in changes
            ]
        if changes:
            sleep(_LOOK_AGAIN)
    return []


def _is_visible(change: Change, topics: Mapping[str, ClusterTopic]) -> bool:
    topic = topics.get(change.topic)
    if topic is None:
        return False
    if change.action == "set_config":
        return topic.configs.get(change.what, change.wanted) == change.wanted
    if change.action == "create" and topic.leaderless:
        return False
    return topic.partitions >= (change.spec.partitions or 1)
