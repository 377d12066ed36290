"""The costliest records that the limits of decoding let through, and the queries they hurt.

python -m tests.fuzz.slow                     CPU milliseconds of one record, worst first
python -m tests.fuzz.slow --only stars        cases whose name has this in it

One case is one rule and one record. The limits are those of the defaults: 1 MiB, 10,000 values.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline.engine.decode import DecodeLimits
from pipeline.engine.match import MatchStage
from pipeline.kql import FieldTable
from pipeline.kql.limits import MAX_PATTERNS
from pipeline.record import Position, Record
from pipeline.rules import NewTerms, RuleSet
from tests.events import ENGINE, library_event
from tests.mutations import _set
from tests.rules import new_terms_rule

LIMITS = DecodeLimits()
_ROUNDS = 3


class Case(NamedTuple):
    """A query and the value of `process.command_line` or another field that it is tried on."""

    name: str
    query: str
    fields: dict[str, Any]


def cases() -> Iterator[Case]:
    size = LIMITS.max_bytes - 4_000
    values = LIMITS.max_values - 200
    line = "process.command_line"
    many_stars = "*".join(["a"] * 2_000)
    patterns = " or ".join(f"*{n:03}-never-there*" for n in range(MAX_PATTERNS))
    yield Case("stars, one value of 1 MiB", f"{line}:*a*a*a*a*b", {line: "a" * size})
    yield Case("2,000 stars, one value of 1 MiB", f"{line}:*{many_stars}*b", {line: "a" * size})
    yield Case("stars, most values", f"{line}:*a*a*a*a*b", {line: ["a" * 90] * values})
    yield Case("2,000 stars, most values", f"{line}:*{many_stars}*b", {line: ["a" * 90] * values})
    yield Case(
        "most patterns, one value of 1 MiB", f"{line}:({patterns})", {line: "a-0" * (size // 3)}
    )
    yield Case(
        "most patterns, most values", f"{line}:({patterns})", {line: ["001-never-ther"] * values}
    )
    yield Case(
        "most patterns without case, most values",
        f"process.name.caseless:({patterns})",
        {"process.name": ["001-NEVER-THER\u0130"] * values},
    )
    yield Case(
        "patterns without case, one value of 1 MiB",
        "process.name.caseless:(*x* or *y* or *z*)",
        {"process.name": "\u0130" * (size // 2)},
    )
    words = " or ".join(f"w{n}" for n in range(1_000))
    yield Case(
        "1,000 words, a text of 1 MiB", f"message:({words})", {"message": "a b c " * (size // 6)}
    )
    yield Case(
        "1,000 words, most texts", f"message:({words})", {"message": ["some words"] * values}
    )
    yield Case(
        "a phrase, a text of 1 MiB", 'message:"a b c d"', {"message": "a b c " * (size // 6)}
    )
    yield Case("free text", "never-there", {"a" + str(n): "value" for n in range(values)})
    yield Case(
        "free text, a pattern", "*never-there*", {"a" + str(n): "v" * 60 for n in range(values)}
    )
    yield Case(
        "1,000 ranges, most values",
        " or ".join(f"process.pid > {10**9 + n}" for n in range(1_000)),
        {"process.pid": list(range(values))},
    )
    yield Case(
        "1,000 networks, most values",
        " or ".join(f'host.ip:"10.{n >> 8}.{n & 255}.0/24"' for n in range(1_000)),
        {"host.ip": ["192.168.1.1"] * values},
    )
    yield Case(
        "dates, most values",
        " and ".join(f'event.created >= "2026-01-{n:02}"' for n in range(1, 29)),
        {"event.created": ["2026-03-02T08:00:00.000Z"] * values},
    )


def stage_of(query: str) -> MatchStage:
    rule = new_terms_rule(query=query, new_terms=NewTerms(("user.id",), 604_800_000, "now-7d"))
    ruleset, issues = RuleSet.compile([rule], FieldTable.builtin())
    if not ruleset.runnable:
        raise ValueError(f"{query[:80]}: {issues}")
    return MatchStage(ruleset, limits=LIMITS)


def milliseconds(case: Case) -> tuple[float, str]:
    """Return the least CPU time of some rounds, and how the record ended."""
    event = library_event(number=1)
    event["dll"]["name"] = ENGINE
    for path, value in case.fields.items():
        event = _set(event, path, value)
    record = Record(
        Position("t", 0, 1), None, json.dumps(event, ensure_ascii=False).encode(), (), 0, 0
    )
    stage = stage_of(case.query)
    times = []
    for _ in range(_ROUNDS):
        begun = time.process_time()
        outcome = stage.process(record)
        times.append((time.process_time() - begun) * 1000)
    reason = outcome.error.reason if outcome.error else outcome.disposition.value
    return min(times), reason


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.slow", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    arguments = parser.parse_args()
    measured = [(*milliseconds(case), case.name) for case in cases() if arguments.only in case.name]
    for spent, ended, name in sorted(measured, reverse=True):
        print(f"{spent:>9.1f} ms  {ended:<12} {name}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
