"""Clients that reach a broker, or say why not."""

from __future__ import annotations

import logging
import socket

import pytest
from confluent_kafka import KafkaError, KafkaException

from pipeline.config import KafkaSettings, Settings
from pipeline.errors import EXIT_CANNOT_START, BrokerError, BrokerUnreachableError, SettingsError
from pipeline.kafka.clients import admin_client, broker_errors, consumer, producer, refused_login


def settings(**overrides):
    return Settings.load(None, {f"kafka.{name}": value for name, value in overrides.items()}, {})


@pytest.fixture
def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("make", [admin_client, producer, consumer])
def test_a_broker_that_does_not_answer_is_named_with_the_reason_and_the_remedy(make, closed_port):
    with pytest.raises(BrokerUnreachableError) as caught:
        make(settings(bootstrap_servers=f"127.0.0.1:{closed_port}"), timeout=1)

    message = str(caught.value)
    assert message.startswith(f"cannot reach any broker of 127.0.0.1:{closed_port} within 1 s: ")
    assert "Connection refused" in message
    assert message.endswith(
        "check kafka.bootstrap_servers (from command line) and kafka.security_protocol (PLAINTEXT)"
    )
    assert EXIT_CANNOT_START == caught.value.exit_code


def test_a_host_that_does_not_exist_is_unreachable():
    with pytest.raises(
        BrokerUnreachableError, match="cannot reach any broker of no-such-host.invalid:9092"
    ):
        admin_client(settings(bootstrap_servers="no-such-host.invalid:9092"), timeout=1)


def test_a_server_that_says_nothing_is_unreachable():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(BrokerUnreachableError, match="within 1 s"),
    ):
        admin_client(settings(bootstrap_servers=f"127.0.0.1:{server.getsockname()[1]}"), timeout=1)


def test_librdkafka_writes_nothing_to_the_terminal(closed_port, capfd):
    with pytest.raises(BrokerUnreachableError):
        admin_client(settings(bootstrap_servers=f"127.0.0.1:{closed_port}"), timeout=1)

    assert ("", "") == tuple(capfd.readouterr())


def test_what_librdkafka_says_is_for_debugging(closed_port, caplog):
    caplog.set_level(logging.DEBUG)

    with pytest.raises(BrokerUnreachableError):
        admin_client(settings(bootstrap_servers=f"127.0.0.1:{closed_port}"), timeout=1)

    ours = [line for line in caplog.records if line.name == "pipeline.kafka.clients.librdkafka"]
    assert {logging.DEBUG} == {line.levelno for line in ours}


def test_an_option_that_librdkafka_does_not_know_is_a_wrong_setting():
    with pytest.raises(SettingsError, match='"no.such.option"'):
        producer(Settings(), no_such_option=1)


def test_a_refused_login_names_the_user_and_not_the_password():
    error = refused_login(
        Settings(
            kafka=KafkaSettings(
                security_protocol="SASL_SSL",
                sasl_mechanism="PLAIN",
                sasl_username="worker",
                sasl_password="hunter2",
            )
        ),
        "Authentication failed",
    )

    assert "refuse the login of 'worker': Authentication failed" in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (KafkaError._TIMED_OUT, BrokerUnreachableError),
        (KafkaError._ALL_BROKERS_DOWN, BrokerUnreachableError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, BrokerError),
    ],
)
def test_errors_of_the_client_become_ours(code, expected):
    with pytest.raises(BrokerError) as caught, broker_errors(Settings(), "reading a"):
        raise KafkaException(KafkaError(code))

    assert expected is type(caught.value)
    assert isinstance(caught.value.__cause__, KafkaException)


def test_a_refusal_says_what_was_being_done():
    with pytest.raises(BrokerError, match="^reading a: "), broker_errors(Settings(), "reading a"):
        raise KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
