"""Carries out a plan in the cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
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
from pipeline.kafka.topics.plan import Change, Plan

_TIMEOUT = 30.0
"""Seconds for the controller to make the topics and to tell the brokers."""


def apply(plan: Plan, admin: AdminClient) -> None:
    """Make all changes of a plan; its findings are left alone.

    Every change is tried, also after one that failed. A second run does what is left.

    Raises:
        BrokerError: with one line for each change that the cluster refused.
    """
    refused: list[str] = []
    for action, run in (
        ("create", _create),
        ("raise_partitions", _raise_partitions),
        ("set_config", _set_configs),
    ):
        changes = [change for change in plan.changes if change.action == action]
        if changes:
            refused += _failures(action, run(admin, changes))
    if refused:
        raise BrokerError("\n".join(refused))


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


def _failures(action: str, answers: Mapping[str, Any]) -> list[str]:
    failures = []
    for topic, answer in answers.items():
        try:
            answer.result()
        except KafkaException as error:
            failures.append(f"topic {topic}: {action} was refused: {error.args[0].str()}")
    return failures
