"""What a backfill does with sightings: first it learns them, later it sends them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from confluent_kafka import Message

from pipeline.assembly.match_stage import forwarded_cache
from pipeline.config import Settings
from pipeline.engine.wire import Learn, encode
from pipeline.history.import_files import MAX_GATHERED, merge
from pipeline.history.log_judge import LogJudge
from pipeline.history.sender import Sender


class LogOutput(Protocol):
    """Takes records of the log; its results are durable once it has settled."""

    @property
    def is_full(self) -> bool:
        """Whether it should settle before it takes more."""

    def take(self, messages: Sequence[Message]) -> None:
        """Judge records, and send or gather the results."""

    def settle(self) -> int:
        """Wait until everything is acknowledged; return how many records were sent since last time.

        Raises:
            DeliveryError: a record was refused.
        """


class LearnOutput:
    """Sends `Learn` records: one per term tuple each time it settles, as far as memory allows."""

    def __init__(self, judge: LogJudge, sender: Sender) -> None:
        self._judge = judge
        self._sender = sender
        self._gathered: dict[bytes, Learn] = {}

    @property
    def is_full(self) -> bool:
        return len(self._gathered) >= MAX_GATHERED

    def take(self, messages: Sequence[Message]) -> None:
        for sighting in self._judge.sightings(messages):
            match = sighting.match
            learned = Learn(
                rule_id=match.rule.id,
                history=match.history,
                window_ms=match.window_ms,
                terms=sighting.terms,
                first_ms=match.time_ms,
                last_ms=match.time_ms,
            )
            self._gathered[sighting.key] = merge(self._gathered.get(sighting.key), learned)

    def settle(self) -> int:
        for learned in self._gathered.values():
            self._sender.learn(learned)
        self._sender.flush()
        sent = len(self._gathered)
        self._gathered.clear()
        return sent


class ResendOutput:
    """Sends observations as the match stage does, without repeats within the granularity."""

    is_full = False

    def __init__(self, judge: LogJudge, sender: Sender, settings: Settings) -> None:
        self._judge = judge
        self._sender = sender
        self._max_bytes = settings.kafka.max_value_bytes
        self._forwarded = forwarded_cache(settings)
        self._sent = 0

    def take(self, messages: Sequence[Message]) -> None:
        for sighting in self._judge.sightings(messages):
            if self._forwarded.covers(sighting):
                continue
            value = encode(sighting.observation())
            if len(value) > self._max_bytes:
                self._judge.skipped["output_too_large"] += 1
                continue
            self._sender.observe(sighting.key, value)
            self._sent += 1
            self._forwarded.remember(sighting)

    def settle(self) -> int:
        self._sender.flush()
        sent, self._sent = self._sent, 0
        return sent
