"""Fixtures of all tests: a clean environment, commands, and brokers that speak Kafka's protocol.

Two brokers stand behind the fixture `broker`: the embedded one, always, and Apache Kafka where
there is a Java and its artifacts are fetched. $TEST_KAFKA says what else may happen:

    auto      (default) tests on Apache Kafka are skipped where it cannot run, and say why
    require   they fail there: for CI, where a skip would go unnoticed
    skip      they are not run: for a quick round
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from pipeline.embedded.broker import EmbeddedBroker
from tests.brokers import ApacheKafka, Broker, KafkaUnavailableError, apache_kafka
from tests.secured_kafka import LISTENERS, SecuredKafka, make_certificates, secured_configs

# No test asserts a duration, Hypothesis's either: the machine may be busy. In CI ($CI is set) the
# examples are the same on every run, so that a change fails for what it changed; a developer's
# runs go on searching for new ones.
settings.register_profile(
    "firstseen",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("firstseen")

Start = Callable[..., "subprocess.Popen[Any]"]

KAFKA_MODES = ("auto", "require", "skip")
KAFKA_FIXTURES = frozenset(
    {"kafka", "own_kafka", "groupless_kafka", "kafka_cluster", "secured_kafka"}
)


def pytest_configure() -> None:
    if kafka_mode() not in KAFKA_MODES:
        raise pytest.UsageError(f"TEST_KAFKA={kafka_mode()}: choose one of {KAFKA_MODES}")
    # A shell starts its background jobs deaf to Ctrl-C, and what they start inherits that; the
    # commands under test are to be stopped by it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def kafka_mode() -> str:
    return os.environ.get("TEST_KAFKA", "auto")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a broker, so that `-m "not broker"` and `-m "not kafka"` mean something."""
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        on_kafka = bool(names & KAFKA_FIXTURES) or item.get_closest_marker("kafka") is not None
        if on_kafka:
            item.add_marker("kafka")
        if on_kafka or names & {"broker", "embedded_broker"}:
            item.add_marker("broker")


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's shell reaches a test."""
    for name in [name for name in os.environ if name.startswith("FIRSTSEEN_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[Broker]:
    with EmbeddedBroker() as running:
        yield Broker("embedded", running.bootstrap)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """Apache Kafka, one node, shared by the whole run: do not stop it."""
    with _kafka_or_skip() as running:
        yield Broker("kafka", running.bootstrap)


@pytest.fixture
def own_kafka() -> Iterator[ApacheKafka]:
    """Apache Kafka, one node, of this test alone: kill it, pause it, start it again."""
    with _kafka_or_skip() as running:
        yield running


@pytest.fixture
def groupless_kafka() -> Iterator[ApacheKafka]:
    """Apache Kafka, one node, that has no place for the groups' offsets until `__consumer_offsets` is created.

    A cluster that is new, busy or broken is so for a while: it answers everything but groups.
    """
    with _kafka_or_skip(configs={"offsets.topic.replication.factor": "3"}) as running:
        yield running


@pytest.fixture
def kafka_cluster() -> Iterator[ApacheKafka]:
    """Apache Kafka, three nodes, of this test alone: it goes on while one of them is gone."""
    with _kafka_or_skip(brokers=3) as running:
        yield running


@pytest.fixture(scope="session")
def secured_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """Apache Kafka, one node, that asks for logins and certificates: do not stop it."""
    if shutil.which("openssl") is None:
        pytest.skip("the command openssl is not there: it makes the certificates")
    directory = tmp_path_factory.mktemp("certificates")
    make_certificates(directory)
    configs = secured_configs(directory)
    with _kafka_or_skip(configs=configs, listeners=LISTENERS) as running:
        yield SecuredKafka(running, directory)


# Each broker is a session fixture of its own behind this one: a parametrised session fixture would
# be torn down and built again wherever the (shuffled) order of the tests changes the parameter.
@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Broker:
    """A broker shared by the whole run; the test runs once on each."""
    fixture = "kafka" if request.param == "kafka" else "embedded_broker"
    running: Broker = request.getfixturevalue(fixture)
    return running


@pytest.fixture
def prefix() -> str:
    """Start of the topic and group names of this test alone, valid in both."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def start() -> Iterator[Start]:
    """start("replay", "-") -> the process of a command; it is gone at the end of the test.

    Its streams are pipes of bytes; options of `subprocess.Popen` may say otherwise.
    """
    processes: list[subprocess.Popen[Any]] = []

    def call(*arguments: object, **options: Any) -> subprocess.Popen[Any]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
        process = subprocess.Popen(command, **{**pipes, **options})
        processes.append(process)
        return process

    yield call
    for process in processes:
        process.kill()
        process.communicate()


@contextmanager
def _kafka_or_skip(**options: Any) -> Iterator[ApacheKafka]:
    if kafka_mode() == "skip":
        pytest.skip("TEST_KAFKA=skip")
    try:
        with apache_kafka(**options) as running:
            yield running
    except KafkaUnavailableError as error:
        reason = f"Apache Kafka cannot run here: {error}"
        if kafka_mode() == "require":
            pytest.fail(reason)
        pytest.skip(reason)
