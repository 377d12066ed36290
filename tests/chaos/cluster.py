"""The cluster of a chaos run: three brokers, three replicas, and a network that can be cut.

Beside the listener for the tests each broker has one for each worker, which advertises the port
of a proxy: a worker that begins with its proxies never learns of another way.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.embedded.process import free_ports, wait_until
from tests.brokers import ApacheKafka, Node, apache_kafka
from tests.chaos.proxy import Network, Proxy
from tests.clients import client_config

BROKERS = 3
IN_SYNC_SECONDS = 60.0

_CONFIGS = {
    # Threads are per listener, and there are five; the rest finds out soon that a broker is gone.
    "num.network.threads": "1",
    "num.io.threads": "2",
    "replica.lag.time.max.ms": "4000",
    "controller.quorum.election.timeout.ms": "1500",
    "controller.quorum.fetch.timeout.ms": "3000",
    # Three JVMs, several workers and whoever else shares two CPUs: a slow broker is not dead yet.
    "broker.session.timeout.ms": "6000",
    "log.segment.bytes": str(64 << 20),
}


@dataclass(frozen=True)
class Ways:
    """The ways of one worker to the brokers, by broker."""

    proxies: dict[int, Proxy]

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies.values())


class Cluster:
    """Three brokers and, by the name of a worker, its ways to them."""

    def __init__(self, kafka: ApacheKafka, ways: dict[str, Ways]) -> None:
        self.kafka = kafka
        self.ways = ways
        # One for the whole run: librdkafka now and then crashes the process when a client is thrown
        # away that still has something to say about a broker that is gone.
        self.admin = AdminClient(client_config(kafka.bootstrap))
        self.one_node_at_a_time = threading.Lock()
        """Held by a fault that takes a broker away: of three, one may be gone."""

    @property
    def bootstrap(self) -> str:
        return self.kafka.bootstrap

    def to_broker(self, number: int) -> list[Proxy]:
        """Return every worker's way to one broker."""
        return [ways.proxies[number] for ways in self.ways.values()]

    def heal(self) -> None:
        for ways in self.ways.values():
            for proxy in ways.proxies.values():
                proxy.heal()

    def wait_back(self, number: int) -> None:
        """Wait until a broker that was started again has all replicas in sync: any one may go then.

        Raises:
            TimeoutError: it is not back in time.
        """
        # The others take a dead broker for alive, and in sync, for a while: so it is asked first.
        port = self.kafka.nodes[number].port
        if not wait_until(lambda: _listens(port) and self._in_sync(), seconds=IN_SYNC_SECONDS):
            raise TimeoutError(f"broker {number} is not in sync after {IN_SYNC_SECONDS:.0f} s")

    def _in_sync(self) -> bool:
        try:
            topics = self.admin.list_topics(timeout=2.0).topics
        except KafkaException:
            return False
        return all(
            len(partition.isrs) == len(partition.replicas)
            for topic in topics.values()
            for partition in topic.partitions.values()
        )


@contextmanager
def cluster(workers: Sequence[str]) -> Iterator[Cluster]:
    """A running cluster with ways for workers of these names."""
    ports = free_ports(2 * BROKERS * len(workers))
    pairs = iter(zip(ports[::2], ports[1::2], strict=True))
    # (broker, worker) -> the broker's own port, the proxy's port
    doors = {(n, w): next(pairs) for n in range(1, BROKERS + 1) for w in workers}

    def listeners(node: Node) -> dict[str, str]:
        own = {w: doors[node.number, w] for w in workers}
        host = "127.0.0.1"
        names = ["CLIENT", "CONTROLLER", *(_listener(w) for w in workers)]
        return {
            "listeners": ",".join(
                [
                    f"CLIENT://{host}:{node.port},CONTROLLER://{host}:{node.controller_port}",
                    *(f"{_listener(w)}://{host}:{port}" for w, (port, _) in own.items()),
                ]
            ),
            "advertised.listeners": ",".join(
                [
                    f"CLIENT://{host}:{node.port}",
                    *(f"{_listener(w)}://{host}:{proxy}" for w, (_, proxy) in own.items()),
                ]
            ),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in names),
        }

    network = Network()
    try:
        ways = {
            w: Ways(
                {
                    n: network.proxy(port=doors[n, w][1], target=doors[n, w][0])
                    for n in range(1, BROKERS + 1)
                }
            )
            for w in workers
        }
        with apache_kafka(
            brokers=BROKERS, configs=_CONFIGS, node_configs=listeners, heap="256m"
        ) as kafka:
            yield Cluster(kafka, ways)
    finally:
        network.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _listener(worker: str) -> str:
    return f"WORKER_{worker.upper()}"
