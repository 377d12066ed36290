"""The brokers the other tests run on: that they are what those tests take them for."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import psutil
import pytest
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, ResourceType

from pipeline.embedded import broker as embedded
from pipeline.embedded.broker import EmbeddedBroker
from pipeline.embedded.process import free_ports
from pipeline.errors import BrokerError
from tests.brokers import ApacheKafka, Broker
from tests.clients import Sent, client_config, create_topic, produce, read_all


def test_records_come_back_in_order_with_key_and_headers(broker, new_topic):
    topic = new_topic("records", partitions=2)
    sent = [
        Sent(b"v%d" % n, key=b"k%d" % n, partition=n % 2, headers=[("h", b"x")]) for n in range(6)
    ]

    produce(broker.bootstrap, topic, sent)

    read = [
        (m.partition(), m.offset(), m.key(), m.value()) for m in read_all(broker.bootstrap, topic)
    ]
    expected = [(n % 2, n // 2, b"k%d" % n, b"v%d" % n) for n in (0, 2, 4, 1, 3, 5)]
    assert read == expected
    assert read_all(broker.bootstrap, topic)[0].headers() == [("h", b"x")]


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_is_understood(broker, new_topic, compression):
    topic = new_topic("compressed")
    producer = Producer({**client_config(broker.bootstrap), "compression.type": compression})
    for _ in range(50):
        producer.produce(topic, b"event " * 100)
    assert producer.flush(10) == 0

    assert [m.value() for m in read_all(broker.bootstrap, topic)] == [b"event " * 100] * 50


def test_a_record_of_several_megabytes_passes(broker, new_topic):
    topic = new_topic("large", configs={"max.message.bytes": "8388608"})

    produce(broker.bootstrap, topic, [b"x" * 5_000_000])

    assert [len(m.value()) for m in read_all(broker.bootstrap, topic)] == [5_000_000]


def test_a_group_goes_on_where_it_committed(broker, new_topic, prefix):
    topic = new_topic("group")
    produce(broker.bootstrap, topic, [b"0", b"1", b"2"])
    config = {
        **client_config(broker.bootstrap),
        "group.id": prefix,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 2000,  # the embedded broker lets a new member wait for half of it
    }

    first = Consumer(config)
    first.subscribe([topic])
    message = first.poll(20)
    first.commit(message, asynchronous=False)
    first.close()
    second = Consumer(config)
    second.subscribe([topic])
    following = second.poll(20)
    committed = second.committed([TopicPartition(topic, 0)], timeout=10)
    second.close()

    assert (message.value(), following.value(), committed[0].offset) == (b"0", b"1", 1)


def test_apache_kafka_keeps_its_records_over_a_restart(own_kafka: ApacheKafka, prefix):
    create_topic(own_kafka.bootstrap, prefix)
    produce(own_kafka.bootstrap, prefix, [b"before"])
    own_kafka.stop()
    own_kafka.start()
    produce(own_kafka.bootstrap, prefix, [b"between"])
    own_kafka.kill()
    own_kafka.restart()
    produce(own_kafka.bootstrap, prefix, [b"after"])

    values = [m.value() for m in read_all(own_kafka.bootstrap, prefix)]

    assert values == [b"before", b"between", b"after"]


@pytest.mark.slow
def test_a_cluster_goes_on_while_one_of_three_nodes_is_gone(kafka_cluster: ApacheKafka, prefix):
    create_topic(kafka_cluster.bootstrap, prefix, partitions=3)
    produce(kafka_cluster.bootstrap, prefix, [Sent(b"before", partition=n) for n in range(3)])
    kafka_cluster.kill(2)
    produce(kafka_cluster.bootstrap, prefix, [Sent(b"without", partition=n) for n in range(3)])
    kafka_cluster.restart(2)

    values = [m.value() for m in read_all(kafka_cluster.bootstrap, prefix)]

    assert values == [b"before", b"without"] * 3


def test_apache_kafka_creates_no_topic_on_its_own(kafka: Broker, prefix):
    topic = f"{prefix}-never-created"
    config = {"topic.metadata.propagation.max.ms": 500, "message.timeout.ms": 2000}
    failed = []
    producer = Producer({**client_config(kafka.bootstrap), **config})
    producer.produce(topic, b"lost", on_delivery=lambda error, _: failed.append(error.code()))
    producer.flush(10)

    assert failed == [KafkaError.UNKNOWN_TOPIC_OR_PART]
    assert topic not in AdminClient(client_config(kafka.bootstrap)).list_topics(timeout=10).topics


def test_the_embedded_broker_takes_any_topic_setting_and_gives_it_back(embedded_broker, prefix):
    configs = {"cleanup.policy": "compact", "retention.ms": "not a number", "nonsense": "1"}
    create_topic(embedded_broker.bootstrap, prefix, partitions=12, configs=configs)

    admin = AdminClient(client_config(embedded_broker.bootstrap))
    resource = ConfigResource(ResourceType.TOPIC, prefix)
    described = admin.describe_configs([resource])[resource].result(10)
    assert {name: entry.value for name, entry in described.items()} == configs
    assert len(admin.list_topics(timeout=10).topics[prefix].partitions) == 12


def test_the_embedded_broker_cannot_add_partitions(embedded_broker, prefix):
    create_topic(embedded_broker.bootstrap, prefix)
    admin = AdminClient(client_config(embedded_broker.bootstrap))

    with pytest.raises(KafkaException, match="not supported"):
        admin.create_partitions([NewPartitions(prefix, 2)])[prefix].result(10)


def test_the_embedded_broker_creates_a_topic_that_was_only_to_be_validated(embedded_broker, prefix):
    admin = AdminClient(client_config(embedded_broker.bootstrap))
    admin.create_topics([NewTopic(prefix, 1, 1)], validate_only=True)[prefix].result(10)

    assert prefix in admin.list_topics(timeout=10).topics


def test_the_embedded_broker_listens_on_loopback_only():
    with EmbeddedBroker() as running:
        host, port = running.bootstrap.split(":")
        connections = psutil.net_connections("tcp")

    listening = {
        c.laddr.ip for c in connections if c.status == "LISTEN" and c.laddr.port == int(port)
    }
    assert (host, listening) == ("127.0.0.1", {"127.0.0.1"})


def test_the_embedded_broker_is_gone_after_stop():
    with EmbeddedBroker() as running:
        port = int(running.bootstrap.split(":")[1])
        assert running.running
    assert not running.running
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_stopping_a_broker_that_never_started_does_nothing():
    EmbeddedBroker().stop()


def test_the_embedded_broker_takes_another_port_when_its_port_is_taken(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [[taken.getsockname()[1]], *([port] for port in free_ports(2))]
        monkeypatch.setattr(embedded, "free_ports", lambda _: ports.pop(0))
        with EmbeddedBroker() as running:
            assert running.bootstrap != f"127.0.0.1:{taken.getsockname()[1]}"


def test_the_embedded_broker_writes_its_log_where_it_is_told(tmp_path):
    log = tmp_path / "broker.log"
    with EmbeddedBroker(log=log):
        assert "listening on" in log.read_text()


def test_a_missing_broker_binary_says_what_to_do(monkeypatch):
    monkeypatch.setenv("CALF_TANSU_BIN", "/does/not/exist")

    with pytest.raises(BrokerError, match="FIRSTSEEN_KAFKA__BOOTSTRAP_SERVERS"):
        EmbeddedBroker().start()


def test_a_broker_that_ends_at_its_start_is_an_error_with_its_last_words(monkeypatch, tmp_path):
    program = tmp_path / "tansu"
    program.write_text("#!/bin/sh\necho no memory left\n")
    program.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(program))

    with pytest.raises(BrokerError, match="no memory left"):
        EmbeddedBroker().start()


def test_the_embedded_broker_dies_with_the_process_that_started_it(tmp_path):
    script = (
        "import sys\n"
        "from pipeline.embedded.broker import EmbeddedBroker\n"
        "broker = EmbeddedBroker()\n"
        "broker.start()\n"
        "print(broker.bootstrap, flush=True)\n"
        "sys.stdin.read()\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with starter:
        port = int(starter.stdout.readline().split(":")[1])
        descendants = psutil.Process(starter.pid).children(recursive=True)
        starter.send_signal(signal.SIGKILL)

    assert len(descendants) == 2
    assert psutil.wait_procs(descendants, timeout=10)[1] == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
