"""Apache Kafka with listeners that ask who is there: logins in the clear and over TLS, certificates."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.brokers import ApacheKafka, Broker
from tests.clients import SECONDS, client_config

LISTENERS = {"LOGIN": "SASL_PLAINTEXT", "LOGIN_TLS": "SASL_SSL", "MUTUAL": "SSL"}

USER = "ann"
PASSWORD = "canary-login-4Rt9"
KEY_PASSWORD = "canary-key-8Xw2"


def make_certificates(directory: Path) -> None:
    """Make a certificate of the broker, which vouches for itself, and one of a client.

    The client's key needs a password.
    """
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2"]
    server = ["-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1", "-nodes"]
    client = ["-subj", "/CN=worker", "-passout", f"pass:{KEY_PASSWORD}"]
    for name, options in {"server": server, "client": client}.items():
        key, certificate = directory / f"{name}.key", directory / f"{name}.pem"
        subprocess.run(
            [*new, *options, "-keyout", key, "-out", certificate], check=True, capture_output=True
        )
    # The store of a broker is one file.
    both = (directory / "server.key").read_text() + (directory / "server.pem").read_text()
    (directory / "server-store.pem").write_text(both)


def secured_configs(directory: Path) -> dict[str, str]:
    """Return the broker settings of `LISTENERS`, with the certificates of a directory."""
    modules = "org.apache.kafka.common.security"
    configs = {
        # Who comes through the open listener, with the certificate or as USER may do everything;
        # anybody else has only the rights that a test grants.
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:CN=worker;User:{USER}",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(directory / "server-store.pem"),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.mutual.ssl.truststore.type": "PEM",
        "listener.name.mutual.ssl.truststore.location": str(directory / "client.pem"),
    }
    for listener in ("login", "login_tls"):
        configs[f"listener.name.{listener}.plain.sasl.jaas.config"] = (
            f'{modules}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        )
        configs[f"listener.name.{listener}.scram-sha-512.sasl.jaas.config"] = (
            f"{modules}.scram.ScramLoginModule required;"
        )
    return configs


@dataclass(frozen=True)
class SecuredKafka:
    """The running broker and the certificates it goes by."""

    kafka: ApacheKafka
    directory: Path

    @property
    def open(self) -> Broker:
        """The listener that asks for nothing, for the tests' own clients."""
        return Broker("kafka", self.kafka.bootstrap)

    def add_scram_user(self, name: str = USER) -> None:
        """Tell the broker the password of a user, as it keeps it for SCRAM."""
        user = UserScramCredentialUpsertion(
            name, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode()
        )
        admin = AdminClient(client_config(self.kafka.bootstrap))
        admin.alter_user_scram_credentials([user])[name].result(SECONDS)

    def grant(self, user: str, right: AclOperation, kind: ResourceType, *names: str) -> None:
        """Give a user a right on these topics or groups."""
        bindings = [
            AclBinding(
                kind,
                name,
                ResourcePatternType.LITERAL,
                f"User:{user}",
                "*",
                right,
                AclPermissionType.ALLOW,
            )
            for name in names
        ]
        admin = AdminClient(client_config(self.kafka.bootstrap))
        for answer in admin.create_acls(bindings).values():
            answer.result(SECONDS)

    def settings(
        self, listener: str, mechanism: str | None = None, user: str = USER
    ) -> dict[str, str]:
        """Return the settings of a client of a listener, as environment variables."""
        protocol = LISTENERS[listener]
        given = {
            "bootstrap_servers": self.kafka.bootstrap_of(listener),
            "security_protocol": protocol,
        }
        if protocol.startswith("SASL"):
            given |= {"sasl_username": user, "sasl_password": PASSWORD}
            given["sasl_mechanism"] = mechanism or "SCRAM-SHA-512"
        if protocol.endswith("SSL"):
            given["ssl_ca_location"] = str(self.directory / "server.pem")
        if protocol == "SSL":
            given["ssl_certificate_location"] = str(self.directory / "client.pem")
            given["ssl_key_location"] = str(self.directory / "client.key")
            given["ssl_key_password"] = KEY_PASSWORD
        return {f"FIRSTSEEN_KAFKA__{name.upper()}": value for name, value in given.items()}
