"""Fixtures of the tests that speak to a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import ApacheKafka, Broker
from tests.clients import create_topic
from tests.deployment import Deployment, NewDeployment

NewTopicOnBroker = Callable[..., str]


@pytest.fixture
def new_topic(broker: Broker, prefix: str) -> NewTopicOnBroker:
    """Create a topic of this test alone on `broker`: new_topic("alerts", partitions=2) -> its name."""

    def create(name: str, *, partitions: int = 1, configs: dict[str, str] | None = None) -> str:
        topic = f"{prefix}-{name}"
        create_topic(broker.bootstrap, topic, partitions=partitions, configs=configs)
        return topic

    return create


@pytest.fixture
def new_deployment(broker: Broker, prefix: str, tmp_path: Path) -> Iterator[NewDeployment]:
    """Make a deployment on `broker` with its topics; its workers are gone after the test."""
    with _deployments(broker, prefix, tmp_path) as make:
        yield make


@pytest.fixture
def kafka_deployment(kafka: Broker, prefix: str, tmp_path: Path) -> Iterator[NewDeployment]:
    """`new_deployment` on Apache Kafka alone: for what the embedded broker does not do as it does."""
    with _deployments(kafka, prefix, tmp_path) as make:
        yield make


@pytest.fixture
def own_deployment(own_kafka: ApacheKafka, prefix: str, tmp_path: Path) -> Iterator[NewDeployment]:
    """`kafka_deployment` on the test's own broker, which it may stop."""
    with _deployments(Broker("kafka", own_kafka.bootstrap), prefix, tmp_path) as make:
        yield make


@contextmanager
def _deployments(broker: Broker, prefix: str, directory: Path) -> Iterator[NewDeployment]:
    made: list[Deployment] = []

    def make(**options: Any) -> Deployment:
        name = f"{prefix}-{len(made)}"
        deployment = Deployment(broker, name, directory / name, **options)
        made.append(deployment)
        deployment.create_topics()
        return deployment

    try:
        yield make
    finally:
        for deployment in made:
            deployment.stop_workers()
