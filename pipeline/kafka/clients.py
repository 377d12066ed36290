"""confluent-kafka clients, for everything except the stream.

Each factory returns a client that has reached a broker, or raises an error that says why it has
not.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from pipeline.config import Settings
from pipeline.config.values import milliseconds
from pipeline.errors import BrokerError, BrokerUnreachableError, SettingsError
from pipeline.kafka.security import librdkafka_config

CONNECT_TIMEOUT = 10.0
"""Seconds to wait for the first answer of a broker."""

Option = str | int | float | bool


class _Client(Protocol):
    def list_topics(self, *, timeout: float) -> Any: ...

    def poll(self, timeout: float) -> Any: ...


_C = TypeVar("_C", bound=_Client)
_T = TypeVar("_T")


class _LibrdkafkaLog:
    """Logs librdkafka's lines at debug level: failed connections are reported as errors anyway."""

    def __init__(self) -> None:
        self._log = logging.getLogger(f"{__name__}.librdkafka")

    def log(self, _level: int, text: str, *values: object) -> None:
        self._log.debug(text, *values)


class _LastError:
    """Remembers the last error that librdkafka reported; the exception only says "timed out"."""

    def __init__(self) -> None:
        self.error: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        # "All brokers are down" follows the reason, and says less than it does.
        if self.error is None or error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self.error = error


def admin_client(
    settings: Settings, *, timeout: float = CONNECT_TIMEOUT, **options: Option
) -> AdminClient:
    """Return a client that describes and changes topics.

    Args:
        settings: how to connect.
        timeout: seconds to wait for a broker.
        options: more options, by librdkafka's names with underscores.

    Raises:
        BrokerUnreachableError: no broker answered in time.
        SettingsError: librdkafka refuses an option or a certificate.
    """
    return _connect(AdminClient, settings, timeout, {}, options)


def producer(
    settings: Settings, *, timeout: float = CONNECT_TIMEOUT, **options: Option
) -> Producer:
    """Return a producer that waits for all replicas; raises like `admin_client`."""
    kafka = settings.kafka
    config: dict[str, Option] = {
        "acks": "all",
        "enable.idempotence": kafka.enable_idempotence,
        "compression.type": kafka.compression_type,
        "linger.ms": milliseconds(kafka.linger),
        "message.max.bytes": kafka.message_max_bytes,
        "delivery.timeout.ms": milliseconds(kafka.delivery_timeout),
    }
    return _connect(Producer, settings, timeout, config, options)


def consumer(
    settings: Settings,
    *,
    group_id: str | None = None,
    timeout: float = CONNECT_TIMEOUT,
    **options: Option,
) -> Consumer:
    """Return a consumer that commits nothing on its own; raises like `admin_client`.

    Args:
        settings: how to connect.
        group_id: its group; by default one that only names the tool. Never the workers' group.
        timeout: seconds to wait for a broker.
        options: more options, by librdkafka's names with underscores.
    """
    kafka = settings.kafka
    config: dict[str, Option] = {
        "group.id": group_id or f"{kafka.group_id}-cli",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": kafka.isolation_level,
        # How long fetching pauses when the client's buffer is full. The buffer is empty again after
        # a tenth of the default of one second, so reading a whole topic would mostly consist of
        # waiting.
        "fetch.queue.backoff.ms": 10,
        # As large as the largest record that the stream accepts.
        "max.partition.fetch.bytes": settings.stream.max_partition_fetch_bytes,
    }
    return _connect(Consumer, settings, timeout, config, options)


def interruptibly(wait: Callable[[], _T]) -> _T:
    """Return or raise what a call of librdkafka does, but let Ctrl-C end the wait at once.

    While librdkafka waits for a broker, Python cannot handle a signal. So the call is made in a
    thread, which is left alone after Ctrl-C.
    """
    done: Future[_T] = Future()

    def run() -> None:
        try:
            done.set_result(wait())
        except BaseException as error:  # noqa: BLE001  (it is raised where the result is awaited)
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result()


@contextmanager
def broker_errors(settings: Settings, doing: str) -> Iterator[None]:
    """Turn confluent-kafka's exceptions into ours.

    Args:
        settings: for the addresses in the message.
        doing: what is being done, for the message: ``reading firstseen-alerts``.

    Raises:
        BrokerUnreachableError: the connection failed.
        BrokerError: the broker refused.
    """
    try:
        yield
    except KafkaException as error:
        cause = error.args[0]
        if cause.code() in _CONNECTION_CODES:
            raise unreachable(settings, cause.str(), CONNECT_TIMEOUT) from error
        raise BrokerError(f"{doing}: {cause.str()}") from error


def unreachable(settings: Settings, reason: str, timeout: float) -> BrokerUnreachableError:
    """Return the error for brokers that do not answer, for clients of any library."""
    return BrokerUnreachableError(
        f"cannot reach any broker of {settings.kafka.bootstrap_servers} within {timeout:g} s: "
        f"{reason}; check kafka.bootstrap_servers (from "
        f"{settings.source('kafka.bootstrap_servers')}) and kafka.security_protocol "
        f"({settings.kafka.security_protocol})"
    )


def refused_login(settings: Settings, reason: str) -> BrokerUnreachableError:
    """Return the error for brokers that refuse the SASL login."""
    return BrokerUnreachableError(
        f"the brokers of {settings.kafka.bootstrap_servers} refuse the login of "
        f"{settings.kafka.sasl_username!r}: {reason}; check kafka.sasl_mechanism "
        f"({settings.kafka.sasl_mechanism}), kafka.sasl_username and kafka.sasl_password"
    )


_CONNECTION_CODES = frozenset(
    {
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError._SSL,  # noqa: SLF001
        KafkaError._AUTHENTICATION,  # noqa: SLF001
    }
)


def _connect(
    make: Callable[..., _C],
    settings: Settings,
    timeout: float,
    config: dict[str, Option],
    options: dict[str, Option],
) -> _C:
    last = _LastError()
    config = {
        **librdkafka_config(settings),
        **config,
        **{name.replace("_", "."): value for name, value in options.items()},
        "log.connection.close": False,  # it is normal that a broker closes an idle connection
    }
    try:
        client = make({**config, "error_cb": last}, logger=_LibrdkafkaLog())
    except KafkaException as error:
        raise SettingsError(f"librdkafka refuses the settings: {error.args[0].str()}") from error
    try:
        interruptibly(lambda: client.list_topics(timeout=timeout))
    except KafkaException as error:
        client.poll(0)  # delivers the errors that were waiting
        cause = last.error or error.args[0]
        if cause.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001
            raise refused_login(settings, cause.str()) from error
        raise unreachable(settings, cause.str(), timeout) from error
    return client
