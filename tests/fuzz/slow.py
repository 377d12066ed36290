"""The costliest records that the limits of decoding let through, and the rules they hurt.

python -m tests.fuzz.slow                     CPU milliseconds of one record, worst first
python -m tests.fuzz.slow --only stars        cases whose name has this in it

Fails if a case takes longer than `SLOW_MS` would be on this machine. The limits are those of the defaults: 1 MiB, 10,000 values.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from typing import NamedTuple

from pipeline.engine.match import MatchStage
from pipeline.engine.wire import encode
from pipeline.kql import FieldTable
from pipeline.record import Position, Record
from pipeline.rules import RuleSet
from tests.fuzz.pace import slowness
from tests.fuzz.run import SLOW_MS
from tests.fuzz.slow_cases import LIMITS, Case, cases

_ROUNDS = 3


class Measured(NamedTuple):
    """What a case took: CPU milliseconds to judge the record, when it comes first and at best, to
    write down what came of it, and to load the rules."""

    first_ms: float
    best_ms: float
    encoded_ms: float
    loaded_ms: float
    ended: str
    name: str


def measure(case: Case) -> Measured:
    begun = time.process_time()
    ruleset, issues = RuleSet.compile(case.rules, FieldTable.builtin())
    stage = MatchStage(ruleset, limits=LIMITS)
    loaded = (time.process_time() - begun) * 1000
    if len(ruleset.runnable) != len(case.rules):
        return Measured(0, 0, 0, loaded, f"refused: {issues[0].message[:80]}", case.name)
    record = Record(Position("t", 0, 1), None, case.value, (), 0, 0)
    times = []
    gc.collect()
    for _ in range(_ROUNDS):
        begun = time.process_time()
        outcome = stage.process(record)
        judged = time.process_time()
        for output in (*outcome.observations, *outcome.new_terms):
            encode(output)
        times.append(((judged - begun) * 1000, (time.process_time() - judged) * 1000))
        if judged - begun > 1:
            break
    ended = outcome.error.reason if outcome.error else outcome.disposition.value
    if outcome.failures:
        ended += f", {outcome.failures[0].code}"
    first = times[0][0]
    best, encoded = min(times)
    return Measured(first, best, encoded, loaded, ended, case.name)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.slow", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    arguments = parser.parse_args()
    measured = [measure(case) for case in cases() if arguments.only in case.name]
    print("    first     best  written   loaded (ms)")  # noqa: T201
    for each in sorted(measured, reverse=True):
        print(  # noqa: T201
            f"{each.first_ms:>9.1f}{each.best_ms:>9.1f}{each.encoded_ms:>9.1f}{each.loaded_ms:>9.1f}"
            f"  {each.ended:<28} {each.name}"
        )
    pace = slowness()
    print(f"this machine takes {pace:.1f} times as long as the one of the limit")  # noqa: T201
    return int(any(each.first_ms > SLOW_MS * pace for each in measured))


if __name__ == "__main__":
    sys.exit(main())
