"""Settings of the Kafka clients, under librdkafka's names."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from pipeline.config.section import Section
from pipeline.config.values import Duration, Size, lower_case

_SERVER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:,\[\]]+):(\d{1,5})")
_GROUP_ID = re.compile(r"[a-zA-Z0-9._-]{1,200}")

_SECOND = timedelta(seconds=1)
_LONGEST = timedelta(days=24)  # Kafka's protocol has milliseconds in 32 bits, with a sign

_RECORD_OVERHEAD_BYTES = 1024
"""Room for the key, headers and framing of a record within the broker's size limit."""


def _upper(value: object) -> object:
    # librdkafka writes sasl_ssl, Java writes SASL_SSL; people paste both.
    return value.upper() if isinstance(value, str) else value


class KafkaSettings(Section):
    """How to reach the brokers and how to behave in the consumer group."""

    bootstrap_servers: str = Field(
        default="localhost:9092",
        description="Brokers to contact first, as `host:port`, separated by commas.",
    )
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(_upper)
    ] = Field(default="PLAINTEXT", description="Protocol to the brokers; upper or lower case.")
    sasl_mechanism: (
        Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(_upper)]
        | None
    ) = Field(default=None, description="SASL mechanism; requires a SASL protocol.")
    sasl_username: str | None = Field(default=None, description="SASL user.")
    sasl_password: SecretStr | None = Field(default=None, description="SASL password.")
    sasl_password_file: Path | None = Field(
        default=None, description="File with the SASL password (a mounted secret)."
    )
    ssl_ca_location: Path | None = Field(
        default=None,
        description="PEM file with the certificate authorities to trust; null: those of the "
        "system.",
    )
    ssl_certificate_location: Path | None = Field(
        default=None, description="PEM file with the client's certificate (mutual TLS)."
    )
    ssl_key_location: Path | None = Field(
        default=None, description="PEM file with the client's private key."
    )
    ssl_key_password: SecretStr | None = Field(
        default=None, description="Password of the client's private key."
    )
    ssl_key_password_file: Path | None = Field(
        default=None, description="File with the password of the client's private key."
    )
    ssl_endpoint_identification_algorithm: Annotated[
        Literal["https", "none"], BeforeValidator(lower_case)
    ] = Field(
        default="https",
        description="`https`: the broker's certificate must name its host. `none`: any "
        "certificate from a trusted authority is accepted, with a warning at every start.",
    )
    group_id: str = Field(
        default="firstseen",
        description="Consumer group; the changelog topics of the tables are named after it.",
    )
    group_instance_id: str | None = Field(
        default=None,
        description="Static member id, different for each worker (the pod's name): "
        "a restart within the session timeout then moves no partitions.",
    )
    client_id: str = Field(
        default="firstseen", min_length=1, description="Client id in the brokers' logs and quotas."
    )
    isolation_level: Annotated[
        Literal["read_committed", "read_uncommitted"], BeforeValidator(lower_case)
    ] = Field(
        default="read_committed",
        description="Whether to read records of aborted transactions. "
        "The default is right with and without transactional producers.",
    )
    enable_idempotence: bool = Field(
        default=True, description="Producer retries write each record once, in order."
    )
    compression_type: Annotated[
        Literal["none", "gzip", "snappy", "lz4", "zstd"], BeforeValidator(lower_case)
    ] = Field(
        default="zstd",
        description="Compression of the output; lz4 uses its slowest level.",
    )
    linger: Duration = Field(
        default=timedelta(milliseconds=10),
        ge=timedelta(0),
        le=5 * _SECOND,  # a stop has six seconds to get everything acknowledged
        description="How long the producer waits to fill a batch.",
    )
    message_max_bytes: Size = Field(
        default=2 << 20,
        ge=1 << 16,
        le=2**31 - 1,
        description="Largest record to write; at most the `max.message.bytes` of our topics.",
    )
    session_timeout: Duration = Field(
        default=15 * _SECOND,
        gt=timedelta(0),
        le=_LONGEST,
        description="A member that sends no heartbeat for this long is removed from the group. The "
        "partitions of a killed worker stand still for as long.",
    )
    heartbeat_interval: Duration = Field(
        default=_SECOND,
        gt=timedelta(0),
        description="Time between two heartbeats. A worker learns from a heartbeat that others "
        "join or leave, and all of them stand still until the last has learned it.",
    )
    rebalance_timeout: Duration = Field(
        default=60 * _SECOND,
        ge=_SECOND,
        le=_LONGEST,
        description="How long members have to finish their work and rejoin.",
    )
    max_poll_interval: Duration = Field(
        default=300 * _SECOND,
        gt=timedelta(0),
        le=_LONGEST,
        description="A member that takes no records for this long leaves the group.",
    )
    request_timeout: Duration = Field(
        default=90 * _SECOND,
        gt=timedelta(0),
        le=_LONGEST,
        description="Longest wait for a broker's response; must exceed the session timeout.",
    )
    delivery_timeout: Duration = Field(
        default=60 * _SECOND,
        ge=_SECOND,
        le=_LONGEST,
        description="How long a broker may take for a produce request, and how long a commit "
        "waits for outputs to be acknowledged; after that, nothing is committed and the commit is "
        "retried.",
    )

    @property
    def max_value_bytes(self) -> int:
        """The largest value of a record that may be sent, in bytes."""
        return self.message_max_bytes - _RECORD_OVERHEAD_BYTES

    @field_validator("bootstrap_servers")
    @classmethod
    def _check_servers(cls, value: str) -> str:
        servers = [server.strip() for server in value.split(",")]
        for server in servers:
            if not (found := _SERVER.fullmatch(server)) or not 0 < int(found[2]) < 65_536:
                raise ValueError("is not a list of host:port, like kafka-1:9092,kafka-2:9092")
        return ",".join(servers)

    @field_validator("group_id")
    @classmethod
    def _check_group_id(cls, value: str) -> str:
        if not _GROUP_ID.fullmatch(value):
            raise ValueError(
                "is not a group id: letters, digits, '.', '_' and '-', at most 200, "
                "because topics are named after it"
            )
        return value
