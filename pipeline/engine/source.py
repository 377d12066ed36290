"""Which topic the offsets in a table's rows belong to.

Rows hold the offsets of the records that made them, and a replay is told from a new record by them.
A topic that is deleted and created again keeps its name, but its offsets start over. Its records
would then pass for replays of others: a term that comes back raises no alert, a sighting may be
taken for one of a history that was held, and an alert for one of a history that was learning. So
each table notes the id of its topic, which Kafka never gives twice.
"""

from __future__ import annotations

from typing import Final

from pipeline.engine.tables import Table
from pipeline.errors import SourceChangedError

SOURCE_KEY: Final = b"source"
"""Where a table keeps the id. No first seen key has this length, no quota key this first letter."""


def check_source(table: Table, topic: str, topic_id: str) -> None:
    """Return if a table belongs to this topic; a table that belongs to none yet becomes its own.

    Args:
        table: the rows of one partition.
        topic: the topic's name.
        topic_id: its id; empty if the brokers give it none, and nothing can be checked.

    Raises:
        SourceChangedError: its rows hold offsets of another topic.
    """
    noted = table.get(SOURCE_KEY)
    if noted is not None and topic_id and noted != topic_id.encode():
        raise source_changed(topic, noted.decode(), topic_id)
    if noted is None and topic_id:
        table.put(SOURCE_KEY, topic_id.encode())


def source_changed(topic: str, before: str, now: str) -> SourceChangedError:
    """Return the error for a topic that has another id than its table has noted."""
    return SourceChangedError(
        f"topic {topic} was created anew: its id is {now}, but its table holds offsets of the one "
        f"with the id {before}. Judged by them, new terms would be missed. What was on its way in "
        f"that topic is lost. Stop all workers, and create the topic and its changelog together: "
        f"see docs/reference/topics.md#created-anew"
    )
