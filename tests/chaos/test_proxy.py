"""The network of the tests can be cut, slowed and healed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.embedded.process import free_ports
from tests.chaos.proxy import Network, Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""

    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(1024):
                connection.sendall(data)

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    network = Network()
    (port,) = free_ports(1)
    yield network.proxy(port, echo)
    network.close()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10.0)


def test_what_goes_in_comes_out(proxy: Proxy):
    with connect(proxy) as connection:
        connection.sendall(b"hello")
        assert connection.recv(1024) == b"hello"


def test_what_is_held_comes_when_it_is_healed(proxy: Proxy):
    with connect(proxy) as connection:
        connection.sendall(b"1")
        assert connection.recv(1024) == b"1"
        proxy.hold()
        connection.sendall(b"2")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1024)
        proxy.heal()
        connection.settimeout(10.0)
        assert connection.recv(1024) == b"2"


def test_a_network_that_refuses_breaks_connections_until_it_is_healed(proxy: Proxy):
    with connect(proxy) as connection:
        connection.sendall(b"1")
        assert connection.recv(1024) == b"1"
        proxy.refuse()
        assert broken(connection)
    with connect(proxy) as connection:
        assert broken(connection)
    proxy.heal()
    with connect(proxy) as connection:
        connection.sendall(b"2")
        assert connection.recv(1024) == b"2"


def test_a_slow_broker_answers_late(proxy: Proxy):
    proxy.slow(0.3)
    with connect(proxy) as connection:
        begin = time.monotonic()
        connection.sendall(b"1")
        assert connection.recv(1024) == b"1"

    assert time.monotonic() - begin >= 0.3


def broken(connection: socket.socket) -> bool:
    try:
        return connection.recv(1024) == b""
    except ConnectionResetError:
        return True
