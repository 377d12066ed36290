"""What is remembered, from outside a worker: read it from Kafka, change it through Kafka.

The rows of the first seen table are in its changelog topic, which anybody may read. Only the worker
that owns a partition may change them, so changes are requested with records in the observations
topic. That gives each change a place in the order of sightings, and it works while workers run.
"""

from __future__ import annotations

from pipeline.history.backfill import Backfill, BackfillResult, Progress, begin_backfills
from pipeline.history.changelog import read_history
from pipeline.history.import_files import ImportCounts, ImportReader
from pipeline.history.rows import HistoryRow, decode_history_row
from pipeline.history.sender import Sender

__all__ = [
    "Backfill",
    "BackfillResult",
    "HistoryRow",
    "ImportCounts",
    "ImportReader",
    "Progress",
    "Sender",
    "begin_backfills",
    "decode_history_row",
    "read_history",
]
