"""What happens when tables have recovered, but must not be used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config import Settings
from pipeline.errors import SourceChangedError
from pipeline.stream.partitions import Partitions
from pipeline.stream.quota import QuotaAgent

TOPICS = Settings().topics


class Table:
    """A table that says of its topic that it was created anew."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.recovered: Callable[[], Any] = lambda: None

    def on_recover(self, recovered: Callable[[], Any]) -> None:
        self.recovered = recovered

    async def check_source(self, topic: str, _ids: object) -> None:
        self.asked.append(topic)
        raise SourceChangedError("created anew")


@pytest.mark.parametrize(
    ("stage", "topic"), [(Partitions, TOPICS.observations), (QuotaAgent, TOPICS.new_terms)]
)
def test_a_table_of_another_topic_fails_the_worker_and_no_record_is_handed_over(
    stage: Callable[..., object], topic: str
):
    """Faust hands over when all that waited for the tables has returned."""
    failures: list[BaseException] = []
    context: Any = SimpleNamespace(
        app=SimpleNamespace(fail=failures.append),
        settings=Settings(),
        source_ids={},
        ruleset=None,
        metrics=None,
        dead_letters=None,
    )
    table = Table()
    kept = stage(context, table)

    async def recover() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(table.recovered(), 0.1)

    asyncio.run(recover())

    assert kept is not None
    assert table.asked == [topic]
    assert [type(failure) for failure in failures] == [SourceChangedError]
