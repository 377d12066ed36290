"""Ctrl-C while a command waits for brokers that do not answer."""

from __future__ import annotations

import signal
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cli import topic_reader
from pipeline.cli.topic_reader import TopicReader
from pipeline.config import Settings
from tests.conftest import Start


@pytest.mark.parametrize("command", [("alerts", "tail"), ("topics", "plan")])
def test_it_ends_at_once(start: Start, command: tuple[str, ...]) -> None:
    """Else it would wait for the ten seconds that a broker has to answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = start(*command, "--set", f"kafka.bootstrap_servers={address}")
        connection, _ = silent.accept()
        with connection:
            time.sleep(0.3)  # librdkafka connects in a thread of its own, maybe before the wait
            interrupted = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=60)

    assert (process.returncode, error) == (130, b"\n")
    assert time.monotonic() - interrupted < 5


def test_an_interrupt_that_the_client_loses_is_none_the_less_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Client:
        def poll(self, _seconds: float) -> None:
            raise SystemError("<method 'poll'> returned NULL without setting an exception")

        def list_topics(self, *, timeout: float) -> Any:
            return SimpleNamespace(topics={"t": SimpleNamespace(error=None, partitions={})})

        def assign(self, _partitions: object) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setattr(topic_reader, "consumer", lambda _settings: Client())
    with (
        TopicReader(Settings(), "t", from_beginning=False) as reader,
        pytest.raises(KeyboardInterrupt),
    ):
        reader.poll(1.0)
