"""Reads the first seen table from its changelog topic, while workers write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Message, TopicPartition

from pipeline.config import Settings
from pipeline.engine.first_seen_rows import decode_row
from pipeline.engine.forgotten import MARKS_KEY, read_marks
from pipeline.engine.identity import HISTORY_BYTES, KEY_BYTES
from pipeline.errors import TopologyError
from pipeline.history.rows import HistoryRow
from pipeline.kafka.clients import broker_errors, consumer
from pipeline.kafka.reading import topic_metadata, until_end

_PROGRESS_RECORDS: Final = 1_000

Rows = dict[bytes, bytes]


def read_history(
    settings: Settings,
    *,
    rule_id: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _records, _partitions: None,
) -> Iterator[HistoryRow]:
    """Yield what is remembered now, partition by partition.

    This reads the changelog to its end and keeps the latest row of each key. The rows of one
    partition at a time are in memory. No consumer group is used, and nothing is committed.

    Args:
        settings: how to connect; the consumer group determines the changelog's name.
        rule_id: yield only this rule's rows.
        on_progress: called now and then with (records read, partitions left).

    Raises:
        BrokerUnreachableError: no broker answers.
        TopologyError: there is no changelog topic.
        BrokerError: a broker refuses, or falls silent before the end.
        StateError: a row was written by a newer version of firstseen.
    """
    topic = settings.first_seen_changelog
    reader = consumer(settings, enable_partition_eof=True)
    try:
        with broker_errors(settings, f"reading {topic}"):
            found = topic_metadata(settings, reader, topic)
            if found is None:
                raise TopologyError(
                    f"topic {topic} does not exist: is kafka.group_id "
                    f"({settings.kafka.group_id}) that of the workers?"
                )
            read = 0
            for done, number in enumerate(sorted(found.partitions), 1):
                latest: Rows = {}
                reader.assign([TopicPartition(topic, number, OFFSET_BEGINNING)])
                for message in until_end(reader, topic, [number]):
                    _keep(latest, message)
                    read += 1
                    if read % _PROGRESS_RECORDS == 0:
                        on_progress(read, len(found.partitions) - done + 1)
                yield from _remembered(latest, rule_id)
    finally:
        reader.close()


def _keep(latest: Rows, message: Message) -> None:
    key, value = message.key(), message.value()
    if value is None:
        latest.pop(key, None)
    elif key is not None and (len(key) == KEY_BYTES or key == MARKS_KEY):
        latest[key] = value


def _remembered(latest: Rows, rule_id: str | None) -> Iterator[HistoryRow]:
    """Yield the rows that count, without forgotten ones that wait for the sweep."""
    marks = read_marks(latest.pop(MARKS_KEY, None))
    for key, value in latest.items():
        row = decode_row(value)
        forgotten = row.count == 0 or row.offset < marks.get(key[:HISTORY_BYTES], 0)
        if not forgotten and rule_id in {None, row.rule_id}:
            yield HistoryRow.of(key, row)
