"""Combinations of settings that cannot work."""

from __future__ import annotations

import pytest

from pipeline.config import Settings
from pipeline.errors import SettingsError

SASL = {
    "kafka.security_protocol": "SASL_SSL",
    "kafka.sasl_mechanism": "PLAIN",
    "kafka.sasl_username": "u",
}
PASSWORD = {"FIRSTSEEN_KAFKA__SASL_PASSWORD": "p"}
KEY_PASSWORD = {"FIRSTSEEN_KAFKA__SSL_KEY_PASSWORD": "p"}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            {"kafka.security_protocol": "SSL", "kafka.sasl_mechanism": "PLAIN"},
            "kafka.sasl_mechanism is set, but kafka.security_protocol is SSL: did you mean SASL_SSL?",
        ),
        (
            {"kafka.sasl_username": "u"},
            "kafka.sasl_username is set, but kafka.security_protocol is PLAINTEXT: did you mean SASL_SSL or SASL_PLAINTEXT?",
        ),
        (
            SASL,
            "kafka.security_protocol is SASL_SSL, but kafka.sasl_password is not set",
        ),
        (
            {"kafka.security_protocol": "SSL", "kafka.ssl_certificate_location": "c"},
            "kafka.ssl_certificate_location is set, but kafka.ssl_key_location is not: a certificate is of no use without its key",
        ),
        (
            {"kafka.security_protocol": "SSL", "kafka.ssl_key_location": "k"},
            "kafka.ssl_key_location is set, but kafka.ssl_certificate_location is not: a key is of no use without its certificate",
        ),
        (
            {"kafka.ssl_ca_location": "ca"},
            "kafka.ssl_ca_location is set, but kafka.security_protocol is PLAINTEXT, which encrypts nothing: did you mean SSL?",
        ),
        (
            {"kafka.heartbeat_interval": "6s"},
            "kafka.heartbeat_interval (6s) must be at most a third of kafka.session_timeout (15s), so that one lost heartbeat costs nothing",
        ),
        (
            {"kafka.session_timeout": "90s"},
            "kafka.session_timeout (90s) must be shorter than kafka.request_timeout (90s): the client refuses to start otherwise",
        ),
        (
            {"stream.event_deadline": "5m"},
            "stream.event_deadline (5m) must be shorter than kafka.max_poll_interval (5m): else the group gives up first",
        ),
        (
            {"stream.max_event_bytes": "3MiB"},
            "kafka.message_max_bytes (2MiB) must be at least twice stream.max_event_bytes (3MiB): an alert holds the event and a copy of its fields",
        ),
        (
            {"topics.inputs": ()},
            "topics.inputs is empty: name at least one topic to read from",
        ),
        (
            {"topics.inputs": ["a", "a"]},
            "topic 'a' is used 2 times (topics.inputs): each use needs its own",
        ),
        (
            {"topics.alerts": "firstseen-first-seen-changelog"},
            "topic 'firstseen-first-seen-changelog' is used 2 times (topics.alerts and topics.first_seen): each use needs its own",
        ),
    ],
)  # fmt: skip
def test_a_combination_that_cannot_work_is_refused(overrides, expected):
    with pytest.raises(SettingsError) as caught:
        Settings.load(None, overrides, {})

    assert f"{expected} (from command line)" == str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "environ", "expected"),
    [
        (
            {**SASL, "kafka.sasl_mechanism": None},
            PASSWORD,
            "kafka.security_protocol is SASL_SSL, but kafka.sasl_mechanism is not set (from command line)",
        ),
        (
            {**SASL, "kafka.security_protocol": "SASL_PLAINTEXT", "kafka.ssl_ca_location": "ca"},
            PASSWORD,
            "kafka.ssl_ca_location is set, but kafka.security_protocol is SASL_PLAINTEXT, which encrypts nothing: did you mean SASL_SSL? (from command line)",
        ),
        (
            {},
            KEY_PASSWORD,
            "kafka.ssl_key_password is set, but kafka.ssl_key_location is not (from FIRSTSEEN_KAFKA__SSL_KEY_PASSWORD)",
        ),
    ],
)  # fmt: skip
def test_a_combination_with_a_secret_that_cannot_work_is_refused(overrides, environ, expected):
    with pytest.raises(SettingsError) as caught:
        Settings.load(None, overrides, environ)

    assert expected == str(caught.value)


def test_what_is_wrong_together_names_the_sources_of_both():
    with pytest.raises(SettingsError) as caught:
        Settings.load(None, {"topics.alerts": "x"}, {"FIRSTSEEN_TOPICS__OVERFLOW": "x"})

    assert str(caught.value).endswith("(from command line, FIRSTSEEN_TOPICS__OVERFLOW)")


@pytest.mark.parametrize(
    ("overrides", "environ"),
    [
        (SASL, PASSWORD),
        ({**SASL, "kafka.security_protocol": "sasl_plaintext"}, PASSWORD),
        ({"kafka.security_protocol": "SSL"}, {}),
        (
            {
                "kafka.security_protocol": "SSL",
                "kafka.ssl_certificate_location": "c",
                "kafka.ssl_key_location": "k",
            },
            KEY_PASSWORD,
        ),
        ({"web.port": 0}, {}),
    ],
)
def test_a_combination_that_works_is_taken(overrides, environ):
    settings = Settings.load(None, overrides, environ)

    assert "command line" == settings.source(next(iter(overrides)))
