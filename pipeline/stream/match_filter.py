"""The match stage below Faust: drops records that need nothing more, and keeps the judged rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pipeline.assembly.match_stage import match_stage, verdicts_of
from pipeline.config import Settings
from pipeline.engine.match import Disposition
from pipeline.engine.prefilter import Prefilter
from pipeline.errors import DecodeError
from pipeline.rules import RuleSet
from pipeline.stream.counts import RecordCounts
from pipeline.stream.judging import Judge, Judged, dead_letter, without_output
from pipeline.stream.records import record_of_batch
from pipeline.stream.transport.record_filter import Examined
from pipeline.telemetry.metrics import Metrics

_GAINS: Final = {Disposition.MATCHED: 2.0, Disposition.SKIPPED: -15.0}
"""What is gained, in microseconds, by judging a record with this outcome before searching it."""

_LATELY: Final = 64
"""The number of records over which the gain is averaged."""


class MatchFilter:
    """A `pipeline.stream.transport.RecordFilter` that runs the match stage.

    It works in the consumer's thread. What it keeps goes on in its judged form, so no record is
    decoded twice. What it drops, it counts: records that no rule matches, and sightings that say
    nothing new.
    """

    def __init__(self, settings: Settings, ruleset: RuleSet, metrics: Metrics) -> None:
        self.topics = frozenset(settings.topics.inputs)
        prefilter = Prefilter.from_ruleset(ruleset)
        self.searches = prefilter.enabled
        self.may_match = prefilter.may_match
        self.positions = prefilter.positions
        self.note_searched = prefilter.note_searched
        self._passes_search = prefilter.satisfies_a_rule
        self._prefilter = prefilter
        verdicts = verdicts_of(settings, ruleset)
        self._judge = Judge(settings, match_stage(settings, ruleset), metrics, verdicts)
        self._gain = 0.0
        self._counts = RecordCounts(metrics)
        self.dropped = 0
        """How many records were dropped so far; all of them are good."""

    @property
    def texts(self) -> tuple[bytes, ...]:
        return self._prefilter.texts

    @property
    def unwatched_bytes(self) -> int:
        return self._prefilter.unwatched_bytes

    def judge(self, tp: Any, records: list[Any]) -> Iterator[Examined]:
        at = 0
        for judged in self._judge.judge_all(tp, records):
            first, at = records[at], at + judged.records
            yield Examined(first, records[at - 1].offset + 1, self._keep(judged))

    def examine(self, tp: Any, records: list[Any]) -> Iterator[Examined]:
        # A match is known to satisfy all clauses of some rule. If nearly everything matches, it is
        # cheaper to judge first, and to search only the records that match nothing.
        at = 0
        while at < len(records):
            if judges_first := self._gain > 0:
                found = self._judge.judge_all(tp, records[at:], self._passes_search)
            elif self._passes_search(records[at].value or b""):
                found = self._judge.judge_all(tp, records[at : at + 1])
            else:
                found = iter(
                    [without_output(record_of_batch(tp, records[at]), Disposition.SKIPPED)]
                )
            for judged in found:
                first, at = records[at], at + judged.records
                yield Examined(first, records[at - 1].offset + 1, self._keep(judged))
                self._note_gain(judged)
                if judges_first and self._gain <= 0:
                    break

    def _note_gain(self, judged: Judged) -> None:
        gain = _GAINS.get(judged.disposition, 0.0)
        self._gain = gain + (self._gain - gain) * (1 - 1 / _LATELY) ** judged.records

    def _keep(self, judged: Judged) -> Judged | None:
        if not judged.is_done:
            return judged
        self._drop(judged.position.topic, judged.disposition, judged.records)
        return None

    def refuse(self, tp: Any, record: Any, reason: str, records: int) -> Judged:
        error = DecodeError("unreadable_batch", f"a batch of {records} records: {reason}"[:500])
        return dead_letter(record_of_batch(tp, record), error, records)

    def count_unread(self, tp: Any, records: int, timestamp_ms: int) -> None:
        if records:
            self._drop(tp.topic, Disposition.SKIPPED, records)
        self._counts.read_until(tp.topic, tp.partition, timestamp_ms)
        self._counts.export()
        self._judge.counts.export()

    def clear(self) -> None:
        self._judge.clear()

    def _drop(self, topic: str, disposition: Disposition, records: int) -> None:
        self.dropped += records
        self._counts.ended(topic, disposition, records)
