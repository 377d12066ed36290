"""Cases measured in rounds, A B C A B C, so that a slow minute of the machine hits all alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from tests.benchmarks.cases import Case, Extent
from tests.benchmarks.command import Say
from tests.benchmarks.contestants import Peer
from tests.benchmarks.ground import Ground
from tests.benchmarks.measurement import Measurement, UnavailableError
from tests.benchmarks.statistics import Spread


@dataclass
class CaseResult:
    """Every run of one case."""

    case: Case
    runs: list[Measurement] = field(default_factory=list)
    unavailable: str | None = None

    @property
    def valid(self) -> list[Measurement]:
        return [run for run in self.runs if run.void is None]

    @property
    def per_cpu_second(self) -> Spread | None:
        """Events per CPU-second; None if nothing valid was measured."""
        return Spread.of([run.per_cpu_second for run in self.valid]) if self.valid else None

    @property
    def per_second(self) -> Spread | None:
        """Events per second of wall clock; None if nothing valid was measured."""
        return Spread.of([run.per_second for run in self.valid]) if self.valid else None

    @property
    def problem(self) -> str | None:
        """Why there is no figure, or why not every run counts."""
        voids = [run.void for run in self.runs if run.void is not None]
        return self.unavailable or (f"void: {voids[0]}" if voids else None)

    def as_json(self) -> dict[str, object]:
        cpu, wall = self.per_cpu_second, self.per_second
        return {
            "title": self.case.contestant.title,
            "corpus": asdict(self.case.corpus),
            "partitions": self.case.partitions,
            "events_per_cpu_second": cpu.as_json() if cpu else None,
            "events_per_second": wall.as_json() if wall else None,
            "problem": self.problem,
            "runs": [run.as_json() for run in self.runs],
        }


def measure_cases(
    ground: Ground, cases: Sequence[Case], extent: Extent, *, reserve: float, say: Say
) -> list[CaseResult]:
    """Measure the cases round by round.

    Args:
        ground: where.
        cases: what; their topics are filled first.
        extent: at most so many rounds.
        reserve: seconds of the run that must be left over for what comes after.
        say: told of each measurement.
    """
    results = [CaseResult(case) for case in cases]
    for case in cases:
        if not case.frozen:
            ground.topic(case.corpus, case.partitions)
    longest = 0.0
    for number in range(extent.rounds):
        if number and ground.seconds_left - reserve < 1.15 * longest:
            say(f"no time for round {number + 1}")
            break
        begin = time.monotonic()
        for result in results:
            if result.unavailable is None:
                _measure(ground, result, extent)
                say(_line(number, result))
        longest = max(longest, time.monotonic() - begin)
    return results


def _measure(ground: Ground, result: CaseResult, extent: Extent) -> None:
    case = result.case
    contestant = case.contestant
    try:
        if isinstance(contestant, Peer):
            topic = ground.topic(case.corpus, case.partitions)
            run = contestant.measure(ground, topic, warm_up=str(extent.warm_up))
        elif case.frozen:
            run = contestant.measure_frozen(ground, case.corpus, case.partitions)
        else:
            run = contestant.measure(ground, ground.topic(case.corpus, case.partitions))
    except UnavailableError as error:
        result.unavailable = str(error)
        return
    result.runs.append(run)


def _line(number: int, result: CaseResult) -> str:
    name = f"round {number + 1}  {result.case.name:<34}"
    if result.unavailable is not None:
        return f"{name} unavailable: {result.unavailable}"
    run = result.runs[-1]
    if run.void is not None:
        return f"{name} void: {run.void}"
    return (
        f"{name} {run.per_cpu_second:>11,.0f} events/CPU-s  {run.per_second:>11,.0f} events/s  "
        f"{1e6 * run.cpu_seconds / run.events:>8.2f} us/event"
    )
