"""Runs records through the engine as a worker does, and measures what each one does to it."""

from __future__ import annotations

import gc
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psutil

from pipeline.engine.alert import build_alert
from pipeline.engine.first_seen import FirstSeen
from pipeline.engine.match import Disposition, MatchStage, Outcome
from pipeline.engine.prefilter import Prefilter
from pipeline.engine.quota import Quota
from pipeline.engine.tables import MemoryTable
from pipeline.engine.wire import (
    CloseWindow,
    NewTerm,
    Observation,
    decode_candidate,
    decode_observation_or_change,
    encode,
)
from pipeline.kql import FieldTable
from pipeline.record import Position, Record
from pipeline.rules import RuleSet, builtin_path, load_rules
from tests.fuzz.pace import slowness
from tests.fuzz.records import Kind

SLOW_MS = 100.0
"""More than this on one record is a stall: everything else on the worker's loop waits as long. On a
slower machine, or in a slow moment, it is as many times more (`tests.fuzz.pace`)."""

_MORE_CHANCES = 4

GROWTH_BYTES = 64 << 20
"""So much may the process grow after its warm-up: caches fill, the allocator keeps what it had."""

# A worker's tables are on disk. Here they are emptied now and then, so that memory tells of the
# engine alone.
_TABLE_RECORDS = 5_000
_START_MS = 1_772_438_400_000
_KEPT_INPUTS = 20


@dataclass
class Figures:
    """What a run has found."""

    records: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    observations: int = 0
    new_terms: int = 0
    crashes: int = 0
    disagreements: int = 0
    slow: int = 0
    slow_once: int = 0
    slowest_ms: float = 0.0
    slowest_kind: str = ""
    most_documents: int = 0
    memory_warm: int = 0
    memory_peak: int = 0
    memory_end: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def growth(self) -> int:
        """Bytes that the process grew by after its warm-up, at its end."""
        return self.memory_end - self.memory_warm

    @property
    def good(self) -> bool:
        return (
            not (self.crashes or self.disagreements or self.slow)
            and sum(self.outcomes.values()) == self.records
            and self.growth <= GROWTH_BYTES
        )

    def to_dict(self) -> dict[str, Any]:
        counters = ("kinds", "outcomes", "dead_letters", "failures", "verdicts")
        plain = {name: value for name, value in vars(self).items() if name not in counters}
        sorted_counters = {name: dict(getattr(self, name).most_common()) for name in counters}
        rate = round(self.records / self.seconds) if self.seconds else 0
        return (
            plain
            | sorted_counters
            | {
                "records_per_second": rate,
                "memory_growth": self.growth,
                "good": self.good,
            }
        )


def fuzz_ruleset() -> RuleSet:
    """The built-in rule and some that ask for more; all of them allow the shortcut."""
    loaded = load_rules([builtin_path(), Path(__file__).parent / "rules"])
    ruleset, issues = RuleSet.compile(loaded.rules, FieldTable.builtin())
    problems = [*loaded.issues, *issues]
    if problems or len(ruleset.runnable) != 4:
        raise RuntimeError(f"the fuzzer's rules have issues: {problems}")
    return ruleset


class Fuzzed:
    """The engine under test."""

    def __init__(self, ruleset: RuleSet | None = None) -> None:
        self.figures = Figures()
        self._ruleset = ruleset or fuzz_ruleset()
        prefilter = Prefilter.from_ruleset(self._ruleset)
        if not prefilter.enabled:
            raise RuntimeError("the fuzzer's rules switch the shortcut off")
        self._quick = MatchStage(self._ruleset, prefilter=prefilter)
        self._plain = MatchStage(self._ruleset)
        self._offset = 0
        self._sightings = 0
        self._candidates = 0
        self.kept: list[tuple[bytes | None, str]] = []
        self._empty_tables()

    def _empty_tables(self) -> None:
        self._first_seen = FirstSeen(MemoryTable())
        self._quota = Quota(MemoryTable())

    def run(self, records: Iterable[Kind], *, limit: int, seconds: float | None = None) -> Figures:
        """Feed records until the limit, or until the time is over."""
        figures, process = self.figures, psutil.Process()
        warm, every = max(limit // 10, 10_000), max(limit // 50, 500)
        began = time.monotonic()
        for kind, value in records:
            self.feed(kind, value)
            if figures.records % _TABLE_RECORDS == 0:
                self._empty_tables()
            if figures.records % every == 0 or figures.records == warm:
                self._sample(process.memory_info().rss, warm=figures.records <= warm)
            figures.seconds = time.monotonic() - began
            if figures.records >= limit or (seconds is not None and figures.seconds >= seconds):
                break
        self._empty_tables()
        gc.collect()
        figures.memory_end = process.memory_info().rss
        return figures

    def _sample(self, memory: int, *, warm: bool) -> None:
        figures = self.figures
        figures.samples.append({"records": figures.records, "memory": memory})
        if warm:
            figures.memory_warm = memory
        figures.memory_peak = max(figures.memory_peak, memory)

    def feed(self, kind: str, value: bytes | None) -> None:
        """Run one record through all stages. Whatever is wrong is counted, never raised."""
        figures = self.figures
        figures.records += 1
        figures.kinds[kind] += 1
        record = self._record(value)
        try:
            quick = self._timed(kind, self._quick, record)
            plain = self._timed(kind, self._plain, record)
            figures.outcomes[quick.disposition.value] += 1
            figures.failures.update(failure.code for failure in quick.failures)
            if plain.error is not None:
                figures.dead_letters[plain.error.reason] += 1
            problem = disagreement(quick, plain)
            if problem is not None:
                figures.disagreements += 1
                self._keep(value, problem)
            for observation in quick.observations:
                self._observe(kind, observation)
            for new_term in quick.new_terms:
                self._admit(new_term)
        except Exception:  # noqa: BLE001  (whatever it is, it is what the fuzzer looks for)
            figures.crashes += 1
            self._keep(value, traceback.format_exc())

    def _record(self, value: bytes | None) -> Record:
        self._offset += 1
        now_ms = _START_MS + self._offset
        return Record(Position("fuzz", 0, self._offset), None, value, (), now_ms, now_ms)

    def _timed(self, kind: str, stage: MatchStage, record: Record) -> Outcome:
        """Judge a record; one that seems slow gets more chances, as the machine has other work.

        The least time counts, each in what the machine takes for other work in the same moment.
        """
        outcome, milliseconds = _judge(stage, record)
        if milliseconds > SLOW_MS:
            self.figures.slow_once += 1
            milliseconds /= slowness()
            for _ in range(_MORE_CHANCES):
                milliseconds = min(milliseconds, _judge(stage, record)[1] / slowness())
        self.figures.most_documents = max(self.figures.most_documents, outcome.documents)
        self._note_time(kind, milliseconds, record.value)
        return outcome

    def _note_time(self, kind: str, milliseconds: float, value: bytes | None) -> None:
        figures = self.figures
        if milliseconds > figures.slowest_ms:
            figures.slowest_ms, figures.slowest_kind = milliseconds, kind
        if milliseconds > SLOW_MS:
            figures.slow += 1
            self._keep(value, f"{milliseconds:.0f} ms")

    def _observe(self, kind: str, observation: Observation) -> None:
        """First seen and alert, from the bytes that cross the topic."""
        figures = self.figures
        figures.observations += 1
        self._sightings += 1
        begin = time.process_time_ns()
        read = decode_observation_or_change(encode(observation))
        if not isinstance(read, Observation):
            raise TypeError("an observation was read as a control")
        sighting = self._first_seen.observe(read, self._sightings, self._sightings - 100)
        if sighting.new:
            new_term = build_alert(
                read, sighting, None, created_ms=_START_MS, ruleset_digest=self._ruleset.digest
            )
            self._admit(new_term)
        milliseconds = (time.process_time_ns() - begin) / 1e6
        self._note_time(f"{kind}, after match", milliseconds, bytes(observation.event))

    def _admit(self, new_term: NewTerm) -> None:
        figures = self.figures
        figures.new_terms += 1
        self._candidates += 1
        read = decode_candidate(encode(new_term))
        if isinstance(read, CloseWindow):
            raise TypeError("a new term was read as a tick")
        now_ms = _START_MS + self._candidates * 1_000
        decision = self._quota.admit(read, self._candidates, now_ms, self._candidates - 100)
        figures.verdicts[decision.verdict.value] += 1
        for output in decision.outputs:
            document = orjson.loads(output.value)
            if document["event"]["id"] != output.key.decode():
                raise ValueError("an alert went out under another id")
            if document["rule"]["id"] != output.rule_id:
                raise ValueError("an event has changed the rule of its alert")

    def _keep(self, value: bytes | None, problem: str) -> None:
        if len(self.kept) < _KEPT_INPUTS:
            self.kept.append((value, problem))


def _judge(stage: MatchStage, record: Record) -> tuple[Outcome, float]:
    begin = time.process_time_ns()
    outcome = stage.process(record)
    return outcome, (time.process_time_ns() - begin) / 1e6


def disagreement(quick: Outcome, plain: Outcome) -> str | None:
    """What is wrong with two outcomes of one record, with and without the shortcut; or None."""
    for outcome in (quick, plain):
        if not consistent(outcome):
            return f"an outcome that contradicts itself: {outcome}"
        if any(failure.code == "evaluation" for failure in outcome.failures):
            return f"a matcher raised: {outcome.failures}"
    if quick.disposition is Disposition.SKIPPED:
        told = plain.matches or plain.observations or plain.new_terms or plain.failures
        return f"skipped, but {plain}" if told else None
    return None if meaning(quick) == meaning(plain) else f"{quick} is not {plain}"


def meaning(outcome: Outcome) -> tuple[object, ...]:
    """An outcome in values that compare."""
    error = outcome.error
    return (
        outcome.disposition,
        outcome.observations,
        outcome.new_terms,
        outcome.matches,
        None if error is None else (error.reason, str(error)),
        outcome.failures,
        outcome.documents,
        outcome.future_capped,
        outcome.untimed,
        outcome.without_tuple,
    )


def consistent(outcome: Outcome) -> bool:
    """Whether a record ended in one way only."""
    match outcome.disposition:
        case Disposition.DEAD_LETTER:
            return outcome.error is not None
        case Disposition.MATCHED:
            return outcome.error is None and bool(outcome.matches)
        case _:
            return outcome.error is None and not (
                outcome.matches or outcome.observations or outcome.new_terms
            )
