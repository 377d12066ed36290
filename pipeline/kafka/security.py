"""How to reach the brokers securely: one set of settings for two kinds of clients.

The command line uses librdkafka (confluent-kafka), the stream uses aiokafka. The same settings mean
the same to both. Nothing here imports either of them.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from pipeline.config import KafkaSettings, Settings
from pipeline.errors import SettingsError

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sasl:
    """SASL login data; the password never shows in ``repr``."""

    mechanism: str
    username: str
    password: str = field(repr=False)


def uses_tls(kafka: KafkaSettings) -> bool:
    """Whether the security protocol encrypts."""
    return kafka.security_protocol.endswith("SSL")


def librdkafka_config(settings: Settings) -> dict[str, str | int | float | bool]:
    """Return the connection settings under librdkafka's names, for confluent-kafka.

    They contain passwords in clear text: never log them.

    Raises:
        SettingsError: a certificate file cannot be read.
    """
    kafka = settings.kafka
    warn_of_risks(kafka)
    config: dict[str, str | int | float | bool] = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "client.id": kafka.client_id,
        "security.protocol": kafka.security_protocol.lower(),
    }
    if (login := sasl(settings)) is not None:
        config["sasl.mechanism"] = login.mechanism
        config["sasl.username"] = login.username
        config["sasl.password"] = login.password
    if uses_tls(kafka):
        config |= _librdkafka_tls(kafka)
    return config


def _librdkafka_tls(kafka: KafkaSettings) -> dict[str, str | int | float | bool]:
    # "probe" is librdkafka's word for the system's certificate authorities.
    config: dict[str, str | int | float | bool] = {
        "ssl.ca.location": "probe",
        "ssl.endpoint.identification.algorithm": kafka.ssl_endpoint_identification_algorithm,
    }
    for name in ("ssl_ca_location", "ssl_certificate_location", "ssl_key_location"):
        path: Path | None = getattr(kafka, name)
        if path is not None:
            _check_readable(name, path)
            config[name.replace("_", ".")] = str(path)
    if kafka.ssl_key_password is not None:
        config["ssl.key.password"] = kafka.ssl_key_password.get_secret_value()
    return config


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context for aiokafka; None if the security protocol does not encrypt.

    Raises:
        SettingsError: a certificate or key cannot be used.
    """
    kafka = settings.kafka
    warn_of_risks(kafka)
    if not uses_tls(kafka):
        return None
    if kafka.ssl_ca_location is not None:
        _check_readable("ssl_ca_location", kafka.ssl_ca_location)
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_ca_location)
    except ssl.SSLError as error:
        raise SettingsError(
            f"kafka.ssl_ca_location: {kafka.ssl_ca_location} holds no PEM certificate: {error}"
        ) from error
    # The certificate itself is always verified; only the check of its host name can be turned off.
    context.check_hostname = kafka.ssl_endpoint_identification_algorithm == "https"
    if kafka.ssl_certificate_location is not None and kafka.ssl_key_location is not None:
        _load_certificate(context, kafka, kafka.ssl_certificate_location, kafka.ssl_key_location)
    return context


def _load_certificate(
    context: ssl.SSLContext, kafka: KafkaSettings, certificate: Path, key: Path
) -> None:
    _check_readable("ssl_certificate_location", certificate)
    _check_readable("ssl_key_location", key)
    password = kafka.ssl_key_password
    # Without a password OpenSSL would ask for one on the terminal; an empty one fails instead.
    secret = password.get_secret_value() if password is not None else ""
    try:
        context.load_cert_chain(certificate, key, secret)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise SettingsError(
            f"kafka.ssl_certificate_location {certificate} with kafka.ssl_key_location {key} "
            f"cannot be used: {reason}; both must be PEM, belong together, and "
            "kafka.ssl_key_password must be right"
        ) from None


def user(settings: Settings) -> str:
    """Return whose rights the brokers check, for messages: the login's name in quotes, if any."""
    name = settings.kafka.sasl_username
    return repr(name) if name else "this client"


def sasl(settings: Settings) -> Sasl | None:
    """Return the SASL login, or None if the security protocol has none."""
    kafka = settings.kafka
    if (
        not kafka.security_protocol.startswith("SASL_")
        or kafka.sasl_mechanism is None
        or kafka.sasl_username is None
        or kafka.sasl_password is None
    ):
        return None  # the settings refuse a SASL protocol with a part missing
    return Sasl(kafka.sasl_mechanism, kafka.sasl_username, kafka.sasl_password.get_secret_value())


def warn_of_risks(kafka: KafkaSettings) -> None:
    """Warn about what was switched off: the host name check, or encryption of the password."""
    if uses_tls(kafka) and kafka.ssl_endpoint_identification_algorithm == "none":
        log.warning(
            "the host names in the brokers' certificates are not checked",
            action="tls_host_check_off",
            setting="kafka.ssl_endpoint_identification_algorithm",
        )
    if kafka.security_protocol == "SASL_PLAINTEXT":
        log.warning(
            "the SASL login goes over the network unencrypted",
            action="sasl_unencrypted",
            setting="kafka.security_protocol",
        )


def _check_readable(name: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise SettingsError(f"kafka.{name}: {path} cannot be read: {error.strerror}") from error
