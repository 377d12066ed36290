"""What a look at the ids of topics leads to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from confluent_kafka import KafkaError, KafkaException

from pipeline.config import Settings
from pipeline.errors import BrokerUnreachableError, SourceChangedError
from pipeline.stream import source_watch
from pipeline.stream.source_watch import SourceWatch

AT_START = {"observations": "id-1", "new-terms": "id-2"}

Answer = Mapping[str, str] | Exception


class Brokers:
    """What they answer when they are asked for the ids, in turn."""

    def __init__(self, *answers: Answer) -> None:
        self._answers: Iterator[Answer] = iter(answers)
        self.connections = 0

    def connect(self, _settings: Settings) -> object:
        self.connections += 1
        if self.connections == 1:
            raise BrokerUnreachableError("no broker answers")
        return object()

    def ids(self, _admin: object, topics: Mapping[str, str]) -> Mapping[str, str]:
        assert set(topics) == set(AT_START)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def looks(monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> tuple[list[object], Brokers]:
    """Return what each look has found: the first one, without a connection, and one per answer."""
    brokers = Brokers(*answers)
    monkeypatch.setattr(source_watch, "admin_client", brokers.connect)
    monkeypatch.setattr(source_watch, "topic_ids", brokers.ids)
    watch = SourceWatch(Settings(), AT_START, lambda _error: None)
    return [watch.look() for _ in range(len(answers) + 1)], brokers


def test_a_topic_with_another_id_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch):
    (_, found), _ = looks(monkeypatch, AT_START | {"new-terms": "id-3"})

    assert isinstance(found, SourceChangedError)
    assert "new-terms" in str(found)


def test_what_may_pass_is_no_error_and_one_connection_serves_all_looks(
    monkeypatch: pytest.MonkeyPatch,
):
    found, brokers = looks(
        monkeypatch, AT_START, {"new-terms": "id-2"}, KafkaException(KafkaError(7)), AT_START
    )

    assert found == [None] * 5
    assert brokers.connections == 2
