"""Ctrl-C while a consumer reports that no broker answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from pipeline.config import Settings
from pipeline.history.log_reader import LogReader
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
    with pytest.raises(KeyboardInterrupt):
        for _ in read(client):
            pass
