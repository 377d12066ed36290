"""One set of settings, the same meaning for both kinds of clients."""

from __future__ import annotations

import shutil
import ssl
import subprocess

import pytest
import structlog
from confluent_kafka.admin import AdminClient

from pipeline.config import Settings
from pipeline.config.sources import env_name
from pipeline.errors import SettingsError
from pipeline.kafka.security import Sasl, librdkafka_config, sasl, ssl_context

PASSWORD = "hunter2-very-secret"
LOGIN = {
    "sasl_mechanism": "scram-sha-512",
    "sasl_username": "worker",
    "sasl_password": PASSWORD,
}

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs the command openssl"
)


def settings(**values):
    given = {env_name(f"kafka.{name}"): str(value) for name, value in values.items()}
    return Settings.load(environ=given)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate, its key, and the key once more with a password."""
    folder = tmp_path_factory.mktemp("certificates")
    run = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test",
    ]
    subprocess.run(
        [*run, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        [
            "openssl",
            "rsa",
            "-aes256",
            "-in",
            folder / "key.pem",
            "-out",
            folder / "locked.pem",
            "-passout",
            f"pass:{PASSWORD}",
        ],
        check=True,
        capture_output=True,
    )
    return folder


def test_plain_text_needs_nothing():
    assert {
        "bootstrap.servers": "localhost:9092",
        "client.id": "firstseen",
        "security.protocol": "plaintext",
    } == librdkafka_config(Settings())
    assert (None, None) == (ssl_context(Settings()), sasl(Settings()))


def test_sasl_data_are_the_same_for_both_clients():
    configured = settings(**LOGIN, security_protocol="SASL_SSL")

    config = librdkafka_config(configured)

    assert Sasl("SCRAM-SHA-512", "worker", PASSWORD) == sasl(configured)
    assert ("SCRAM-SHA-512", "worker", PASSWORD) == tuple(
        config[name] for name in ("sasl.mechanism", "sasl.username", "sasl.password")
    )


def test_the_password_is_not_in_the_repr():
    assert PASSWORD not in repr(Sasl("PLAIN", "worker", PASSWORD))


def test_without_an_authority_those_of_the_system_are_trusted():
    secure = settings(security_protocol="SSL")

    context = ssl_context(secure)

    assert (True, ssl.CERT_REQUIRED) == (context.check_hostname, context.verify_mode)
    assert ssl.create_default_context().cert_store_stats() == context.cert_store_stats()
    assert ("probe", "https") == (
        librdkafka_config(secure)["ssl.ca.location"],
        librdkafka_config(secure)["ssl.endpoint.identification.algorithm"],
    )


def test_host_names_are_let_off_only_on_demand_with_a_warning_and_certificates_never():
    insecure = settings(security_protocol="SSL", ssl_endpoint_identification_algorithm="none")

    with structlog.testing.capture_logs() as logs:
        context = ssl_context(insecure)

    assert (False, ssl.CERT_REQUIRED) == (context.check_hostname, context.verify_mode)
    assert [("tls_host_check_off", "warning")] == [
        (line["action"], line["log_level"]) for line in logs
    ]


def test_a_login_in_clear_text_is_warned_about():
    with structlog.testing.capture_logs() as logs:
        librdkafka_config(settings(**LOGIN, security_protocol="SASL_PLAINTEXT"))

    assert ["sasl_unencrypted"] == [line["action"] for line in logs]


@needs_openssl
def test_a_client_certificate_is_loaded(certificate):
    mutual = settings(
        security_protocol="SSL",
        ssl_ca_location=certificate / "cert.pem",
        ssl_certificate_location=certificate / "cert.pem",
        ssl_key_location=certificate / "locked.pem",
        ssl_key_password=PASSWORD,
    )

    config = librdkafka_config(mutual)

    assert 1 == ssl_context(mutual).cert_store_stats()["x509_ca"]
    assert (str(certificate / "cert.pem"), str(certificate / "locked.pem"), PASSWORD) == tuple(
        config[name]
        for name in ("ssl.certificate.location", "ssl.key.location", "ssl.key.password")
    )
    AdminClient(config)  # librdkafka knows every name and takes the files


@needs_openssl
@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_wrong_key_password_is_named_and_not_shown(certificate, password):
    wrong = settings(
        security_protocol="SSL",
        ssl_certificate_location=certificate / "cert.pem",
        ssl_key_location=certificate / "locked.pem",
        ssl_key_password=password,
    )

    with pytest.raises(SettingsError, match="kafka.ssl_key_password must be right") as caught:
        ssl_context(wrong)

    assert "'wrong'" not in str(caught.value)


@pytest.mark.parametrize("make", [ssl_context, librdkafka_config])
def test_a_missing_file_is_named(make, tmp_path):
    with pytest.raises(SettingsError) as caught:
        make(settings(security_protocol="SSL", ssl_ca_location=tmp_path / "ca.pem"))

    assert (
        f"kafka.ssl_ca_location: {tmp_path}/ca.pem cannot be read: No such file or directory"
        == str(caught.value)
    )


def test_a_file_that_is_no_certificate_is_named(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("hello", encoding="utf-8")

    with pytest.raises(SettingsError, match="holds no PEM certificate"):
        ssl_context(settings(security_protocol="SSL", ssl_ca_location=path))
