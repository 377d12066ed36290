"""Brokers that ask for a login or a certificate: everything works with it, nothing without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import create_topic
from tests.deployment import Deployment, error_lines
from tests.events import NO_JSON, encode, library_event
from tests.secured_kafka import KEY_PASSWORD, PASSWORD, SecuredKafka

pytestmark = pytest.mark.slow

WAYS_IN = [("LOGIN", "SCRAM-SHA-512"), ("LOGIN_TLS", "PLAIN"), ("MUTUAL", None)]

COMMANDS = (
    ("topics", "plan"),
    ("worker",),
    ("alerts", "tail", "--max", "1"),
    ("dead-letters", "list"),
)


@pytest.fixture
def stack(secured_kafka: SecuredKafka, prefix: str, tmp_path: Path) -> Iterator[Deployment]:
    """A deployment whose tests speak to the open listener; its input topic is there."""
    secured_kafka.add_scram_user()
    deployment = Deployment(secured_kafka.open, prefix, tmp_path)
    create_topic(secured_kafka.open.bootstrap, deployment.input, partitions=2)
    yield deployment
    deployment.stop_workers()


@pytest.mark.parametrize(("listener", "mechanism"), WAYS_IN, ids=[way[0] for way in WAYS_IN])
def test_topics_worker_alerts_and_dead_letters_work_behind_a_login(
    stack: Deployment, secured_kafka: SecuredKafka, listener: str, mechanism: str | None
):
    stack.settings |= secured_kafka.settings(listener, mechanism)
    stack.settings["FIRSTSEEN_LOG__LEVEL"] = "debug"

    applied = stack.command("topics", "apply")
    worker = stack.start_worker()
    worker.wait_ready()
    stack.produce([encode(library_event()), NO_JSON])
    stack.wait_drained()
    tailed = stack.command("alerts", "tail", "--from-beginning", "--max", "1", "--json")
    listed = stack.command("dead-letters", "list", "--json")

    assert json.loads(tailed.stdout)["labels"]["alert_kind"] == "new_term"
    assert "invalid_json" in listed.stdout
    # Of a login that goes over the network in the clear, everybody is warned.
    warned = {"sasl_unencrypted" in done.stderr for done in (applied, tailed, listed)}
    assert warned == {listener == "LOGIN"}
    assert worker.stop() == 0
    printed = [done.stdout + done.stderr for done in (applied, tailed, listed)]
    printed += [worker.log.read_text()]
    assert not [text for text in printed if PASSWORD in text or KEY_PASSWORD in text]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_a_wrong_password_is_told_in_one_line_and_not_shown(
    stack: Deployment, secured_kafka: SecuredKafka, mechanism: str
):
    wrong = "canary-wrong-6Kd1"
    stack.settings |= secured_kafka.settings("LOGIN", mechanism)
    stack.settings["FIRSTSEEN_KAFKA__SASL_PASSWORD"] = wrong

    for arguments in COMMANDS:
        done = stack.command(*arguments, check=False)

        (said,) = error_lines(done)
        assert (done.returncode, done.stdout) == (4, "")
        assert "refuse the login of 'ann'" in said
        assert "kafka.sasl_password" in said
        assert wrong not in done.stderr


def test_a_broker_whose_certificate_nobody_vouches_for_is_refused(
    stack: Deployment, secured_kafka: SecuredKafka
):
    stack.settings |= secured_kafka.settings("LOGIN_TLS")
    # Another authority than the one that vouches for the broker.
    authority = secured_kafka.directory / "client.pem"
    stack.settings["FIRSTSEEN_KAFKA__SSL_CA_LOCATION"] = str(authority)

    done = stack.command("topics", "plan", check=False)

    (said,) = error_lines(done)
    assert done.returncode == 4
    assert "certificate verify failed" in said
    assert PASSWORD not in done.stderr


def test_a_client_without_a_certificate_is_turned_away(
    stack: Deployment, secured_kafka: SecuredKafka
):
    stack.settings |= secured_kafka.settings("MUTUAL")
    for name in ("CERTIFICATE_LOCATION", "KEY_LOCATION", "KEY_PASSWORD"):
        del stack.settings[f"FIRSTSEEN_KAFKA__SSL_{name}"]

    done = stack.command("topics", "plan", check=False)

    (said,) = error_lines(done)
    assert done.returncode == 4
    assert "kafka.security_protocol (SSL)" in said
