"""Reading to the end of a topic while no broker answers, and Ctrl-C meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from pipeline.config import Settings
from pipeline.errors import BrokerError
from pipeline.history.log_reader import LogReader
from pipeline.kafka import reading
from pipeline.kafka.reading import until_end


def _export(client: Consumer) -> Any:
    client.assign([TopicPartition("t", 0, 0)])
    return until_end(client, "t", [0])


def _backfill(client: Consumer) -> Any:
    return LogReader(Settings(), client).read({("t", 0): (0, 1)})


@pytest.mark.parametrize("read", [_export, _backfill])
def test_an_interrupt_that_the_client_loses_is_none_the_less_one(
    read: Callable[[Consumer], Any],
) -> None:
    def interrupted(_error: object) -> None:
        raise KeyboardInterrupt

    client = Consumer(
        {
            "bootstrap.servers": "127.0.0.1:1",
            "group.id": "test",
            "error_cb": interrupted,
            "log_level": 0,
        }
    )
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        for _ in read(client):
            pass
    assert time.monotonic() - begun < 5


class Answer:
    """A record."""

    def error(self) -> None:
        return None


def test_silence_is_an_error_only_without_a_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SILENCE_SECONDS", 3.0)

    answers = [None, None, Answer(), None, None, Answer(), None, None, None]
    client: Any = SimpleNamespace(poll=lambda _seconds: answers.pop(0))
    found = until_end(client, "t", [0])
    assert [type(next(found)), type(next(found))] == [Answer, Answer]
    with pytest.raises(BrokerError, match="reading t: no answer for 3 s"):
        next(found)
    assert answers == []
