"""Apache Kafka 4.x for the tests: one broker, or a small cluster, on loopback, without Docker.

    mvn -q -B -f tests/kafka/pom.xml dependency:copy-dependencies     once: fetch the artifacts
    python -m tests.brokers --brokers 1                               start one by hand, Ctrl-C stops

It is the server from Maven Central's artifacts, started as its own scripts start it: the storage is
formatted by `kafka.tools.StorageTool`, then `kafka.Kafka` runs with a properties file. Each node is
broker and KRaft controller at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.embedded.process import ServerProcess, free_ports, wait_until

KAFKA = Path(__file__).parent / "kafka"
JARS = KAFKA / "target" / "dependency"
FETCH_COMMAND = "mvn -q -B -f tests/kafka/pom.xml dependency:copy-dependencies"
OLDEST_JAVA = 17
START_SECONDS = 60.0

# librdkafka tells stderr each time a broker that is still starting refuses a connection.
_SILENT = logging.getLogger("tests.brokers.librdkafka")
_SILENT.setLevel(logging.CRITICAL + 1)

# The cluster id is any 16 bytes in base64; every node of a cluster is formatted with the same one.
CLUSTER_ID = "Zmlyc3RzZWVuLXRlc3RzAA"


class KafkaUnavailableError(Exception):
    """Apache Kafka cannot run on this machine; the message says what to do."""


def java_command() -> str:
    """Path of a Java 17 or newer: $JAVA_HOME's, else the one on PATH."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if java is None:
        raise KafkaUnavailableError(f"no java found: install a Java {OLDEST_JAVA} runtime")
    answer = subprocess.run(
        [java, "-XshowSettings:properties", "-version"], capture_output=True, text=True, check=True
    )
    for line in answer.stderr.splitlines():
        name, _, value = line.partition(" = ")
        if name.strip() == "java.specification.version":
            if int(value.split(".")[0]) < OLDEST_JAVA:
                raise KafkaUnavailableError(f"{java} is Java {value}: Kafka 4 needs {OLDEST_JAVA}")
            return java
    raise KafkaUnavailableError(f"{java} does not tell its version")


def class_path() -> str:
    """The broker's artifacts, as Maven has copied them."""
    found = len(list(JARS.glob("kafka_*.jar")))
    if found == 0:
        raise KafkaUnavailableError(f"Kafka's artifacts are not here: run `{FETCH_COMMAND}`")
    if found > 1:
        raise KafkaUnavailableError(f"{JARS} holds several versions: delete it, `{FETCH_COMMAND}`")
    return f"{JARS}/*"


@dataclass(frozen=True)
class Broker:
    """A running broker as a test sees it; `name` is "embedded" or "kafka"."""

    name: str
    bootstrap: str

    @property
    def is_apache(self) -> bool:
        """Whether compaction, transactions and offsets are the real thing."""
        return self.name == "kafka"


@dataclass(frozen=True)
class Node:
    """One broker: its number, its ports, its directory, and its process while it runs."""

    number: int
    port: int
    controller_port: int
    directory: Path
    more_ports: Mapping[str, int]

    @property
    def properties(self) -> Path:
        return self.directory / "server.properties"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"


class ApacheKafka:
    """A cluster of `brokers` nodes whose data lies under `directory`.

    With three nodes or more a topic gets three replicas and needs two in sync, so that one node
    may be killed; with fewer, one replica.

    Args:
        directory: an empty directory, kept by `stop`, so that `start` finds the same data again.
        brokers: number of nodes.
        configs: broker settings over the ones here (https://kafka.apache.org/documentation/#brokerconfigs).
        listeners: more listeners for clients, each a name and a protocol; `bootstrap_of` has their
            addresses. What stands behind `bootstrap` is never encrypted and takes everybody.
        node_configs: settings of one node over those, such as further listeners.
        heap: the JVM's -Xmx of each node.
    """

    def __init__(
        self,
        directory: Path,
        *,
        brokers: int = 1,
        configs: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        node_configs: Callable[[Node], Mapping[str, str]] | None = None,
        heap: str = "512m",
    ) -> None:
        self._java = java_command()
        self._class_path = class_path()
        self._configs = dict(configs or {})
        self._node_configs = node_configs or (lambda _: {})
        self._heap = heap
        self._processes: dict[int, ServerProcess] = {}
        self._listeners = dict(listeners or {})
        ports = iter(free_ports((2 + len(self._listeners)) * brokers))
        self.nodes = {
            number: Node(
                number,
                port=next(ports),
                controller_port=next(ports),
                directory=directory / f"node{number}",
                more_ports={name: next(ports) for name in self._listeners},
            )
            for number in range(1, brokers + 1)
        }
        for node in self.nodes.values():
            node.directory.mkdir(parents=True)
            node.properties.write_text(self._properties(node))
        self._format()

    @property
    def bootstrap(self) -> str:
        """`bootstrap.servers` for clients: every node, the same ports for the cluster's life."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes.values())

    def bootstrap_of(self, listener: str) -> str:
        """`bootstrap.servers` of one of the more `listeners`."""
        return ",".join(f"127.0.0.1:{node.more_ports[listener]}" for node in self.nodes.values())

    @property
    def replication(self) -> int:
        return min(3, len(self.nodes))

    def start(self) -> None:
        """Start every node that does not run, and wait until the cluster answers with all."""
        for number in self.nodes:
            if number not in self._processes:
                self._launch(number)
        self.wait_ready(len(self.nodes))

    def stop(self) -> None:
        """Stop every node in an orderly way; the data stays."""
        # All at once: the last controller of a cluster would wait for a quorum that is gone.
        stopping = [
            threading.Thread(target=self._processes.pop(number).stop, kwargs={"seconds": 30.0})
            for number in list(self._processes)
        ]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()

    def stop_node(self, number: int = 1) -> None:
        """Stop one node in an orderly way (SIGTERM)."""
        self._processes.pop(number).stop(seconds=30.0)

    def kill(self, number: int = 1) -> None:
        """Kill one node (SIGKILL): what it had not written to disk is lost with it."""
        self._processes.pop(number).kill()

    def pause(self, number: int = 1) -> None:
        """Freeze one node (SIGSTOP): its connections stay open and nothing answers."""
        self._java_process(number).suspend()

    def resume(self, number: int = 1) -> None:
        """Let a frozen node go on."""
        self._java_process(number).resume()

    def restart(self, number: int = 1) -> None:
        """Start a stopped or killed node on its ports and data, and wait until it has joined."""
        self._launch(number)
        self.wait_ready(len(self._processes))

    def wait_ready(self, brokers: int, *, seconds: float = START_SECONDS) -> None:
        """Wait until a client sees `brokers` live brokers."""
        if not wait_until(lambda: self._live() == brokers, seconds=seconds):
            tails = "\n".join(f"--- {node.log}\n{_tail(node.log)}" for node in self.nodes.values())
            raise TimeoutError(f"Kafka did not get ready within {seconds:.0f} s\n{tails}")

    def _java_process(self, number: int) -> psutil.Process:
        (java,) = psutil.Process(self._processes[number].pid).children()
        return java

    def _live(self) -> int:
        for number, process in self._processes.items():
            if not process.running:
                log = self.nodes[number].log
                raise RuntimeError(f"Kafka node {number} ended at its start\n{_tail(log)}")
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "logger": _SILENT})
        try:
            return len(admin.list_topics(timeout=1.0).brokers)
        except KafkaException:
            return 0

    def _launch(self, number: int) -> None:
        node = self.nodes[number]
        command = [
            *(self._java, f"-Xmx{self._heap}", "-XX:+UseSerialGC", "-Djava.awt.headless=true"),
            # C1 only: a test broker lives for a minute or two, most of which C2 would spend compiling.
            "-XX:TieredStopAtLevel=1",
            f"-Dlog4j2.configurationFile={KAFKA / 'log4j2.xml'}",
            f"-Dfirstseen.logs={node.directory}",
            *("-cp", self._class_path, "kafka.Kafka", str(node.properties)),
        ]
        self._processes[number] = ServerProcess(
            command, log=node.directory / "output.log", env=_environment()
        )

    def _format(self) -> None:
        formatting = [
            subprocess.Popen(
                [
                    *(self._java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m"),
                    f"-Dlog4j2.configurationFile={KAFKA / 'log4j2.xml'}",
                    f"-Dfirstseen.logs={node.directory}",
                    *("-cp", self._class_path, "kafka.tools.StorageTool", "format"),
                    *("--config", str(node.properties), "--cluster-id", CLUSTER_ID),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=_environment(),
            )
            for node in self.nodes.values()
        ]
        for process in formatting:
            output, _ = process.communicate(timeout=START_SECONDS)
            if process.returncode != 0:
                raise RuntimeError(f"kafka.tools.StorageTool failed:\n{output}")

    def _properties(self, node: Node) -> str:
        replicas = str(self.replication)
        in_sync = str(max(1, self.replication - 1))
        voters = ",".join(f"{n.number}@127.0.0.1:{n.controller_port}" for n in self.nodes.values())
        controller = f"127.0.0.1:{node.controller_port}"
        protocols = {"CLIENT": "PLAINTEXT", **self._listeners}
        ports = {"CLIENT": node.port, **node.more_ports}
        clients = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
        configs = {
            "process.roles": "broker,controller",
            "node.id": str(node.number),
            "controller.quorum.voters": voters,
            "listeners": f"{clients},CONTROLLER://{controller}",
            "advertised.listeners": clients,
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}"
                for name, protocol in {**protocols, "CONTROLLER": "PLAINTEXT"}.items()
            ),
            "inter.broker.listener.name": "CLIENT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(node.directory / "data"),
            "auto.create.topics.enable": "false",
            "message.max.bytes": str(8 * 1024 * 1024),
            "replica.fetch.max.bytes": str(8 * 1024 * 1024),
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            # Small and quick, for tests: no waiting for more members, few internal partitions,
            # a dead node is noticed soon, a group may have short sessions.
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            "broker.heartbeat.interval.ms": "300",
            "broker.session.timeout.ms": "3000",
            "num.io.threads": "4",
            "num.network.threads": "2",
            "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
            "log.cleaner.backoff.ms": "1000",
            "log.initial.task.delay.ms": "1000",
        }
        configs |= {**self._configs, **self._node_configs(node)}
        return "".join(f"{name}={value}\n" for name, value in configs.items())


@contextmanager
def apache_kafka(
    *,
    brokers: int = 1,
    configs: Mapping[str, str] | None = None,
    listeners: Mapping[str, str] | None = None,
    node_configs: Callable[[Node], Mapping[str, str]] | None = None,
    heap: str = "512m",
) -> Iterator[ApacheKafka]:
    """A running cluster in a temporary directory; both are gone afterwards.

    Raises:
        KafkaUnavailableError: no Java, or the artifacts are not fetched.
    """
    with tempfile.TemporaryDirectory(prefix="firstseen-kafka-") as directory:
        kafka = ApacheKafka(
            Path(directory),
            brokers=brokers,
            configs=configs,
            listeners=listeners,
            node_configs=node_configs,
            heap=heap,
        )
        try:
            kafka.start()
            yield kafka
        finally:
            kafka.stop()


def _environment() -> dict[str, str]:
    # No KAFKA_OPTS, CLASSPATH or JAVA_TOOL_OPTIONS of the machine changes what the tests run on.
    return {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ}


def _tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text().splitlines()[-lines:]) if log.exists() else "(no log)"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.brokers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--brokers", type=int, default=1, help="nodes of the cluster (default 1)")
    arguments = parser.parse_args()
    asked_to_stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_stop.set())
    begin = time.monotonic()
    try:
        with apache_kafka(brokers=arguments.brokers) as kafka:
            print(kafka.bootstrap, flush=True)  # noqa: T201
            print(f"ready after {time.monotonic() - begin:.1f} s; Ctrl-C stops", file=sys.stderr)  # noqa: T201
            asked_to_stop.wait()
    except KafkaUnavailableError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
