"""Runs the engine over files of events, without Kafka: what the rules would have found in them."""

from __future__ import annotations

from pipeline.replay.events import EventLine, read_events
from pipeline.replay.replay import DeadLine, Replay, ReplaySettings, ReplayStats
from pipeline.replay.rocks import RocksTable

__all__ = [
    "DeadLine",
    "EventLine",
    "Replay",
    "ReplaySettings",
    "ReplayStats",
    "RocksTable",
    "read_events",
]
