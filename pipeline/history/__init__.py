"""What is remembered, from outside a worker: read it from Kafka, change it through Kafka.

The rows of the first seen table are in its changelog topic, which anybody may read. Changing them
is the business of the worker that owns the partition: it is asked to by records of the observations
topic, so a change has a place in the order of sightings, and works while workers run.
"""

from __future__ import annotations

from pipeline.history.backfill import Backfill, Backfilled, Progress, begin_backfills
from pipeline.history.changelog import read_history
from pipeline.history.records import HistoryRow, decode_history_row
from pipeline.history.sender import Sender
from pipeline.history.sources import HistoryReader, ImportCounts

__all__ = [
    "Backfill",
    "Backfilled",
    "HistoryReader",
    "HistoryRow",
    "ImportCounts",
    "Progress",
    "Sender",
    "begin_backfills",
    "decode_history_row",
    "read_history",
]
