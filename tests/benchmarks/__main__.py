"""firstseen beside everything that a user would pick instead.

    uv run python -m tests.benchmarks [--quick] [--json FILE] [--picture FILE]
                                      [--only NAME]... [--scale FACTOR] [--rounds N]
                                      [--without-native] [--list]

Measures firstseen as it is in its image, with `firstseen-native`. Where that is not installed, an
environment that has it is made first, with cargo and uv; that takes a minute or two, which no time
limit counts. Without cargo, or with `--without-native`, the worker is measured without it:
`machine.native` in the results says which it was.

Needs Apache Kafka's artifacts (tests/kafka/pom.xml), a JDK and Maven for the Kafka Streams program,
and uv for the environments of Quix Streams and Bytewax, which are made when they are first needed.
`--picture` needs the dependency group `bench`: uv run --group bench python -m tests.benchmarks ...
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks import picture
from tests.benchmarks.cases import FULL, QUICK, Case, Cases, Extent
from tests.benchmarks.command import add_without_native, say
from tests.benchmarks.ground import Ground, prepared_ground
from tests.benchmarks.installation import Installation, installation_to_measure
from tests.benchmarks.latency import measure_latency
from tests.benchmarks.machine import describe
from tests.benchmarks.measurement import UnavailableError
from tests.benchmarks.report import GOALS, MEANING, problems, ratios, summary
from tests.benchmarks.state import measure_state
from tests.benchmarks.throughput import measure_cases
from tests.brokers import KafkaUnavailableError

_RESERVES = {"state": 75.0, "latency": 35.0}
"""Seconds that a short run leaves for what comes after the rounds."""


class Run:
    """One run: which sections and contestants, and what was found."""

    def __init__(self, extent: Extent, only: frozenset[str]) -> None:
        self._extent = extent
        self._only = only
        self.throughput: dict[str, dict[str, Any]] = {}
        self.state: dict[str, Any] = {}
        self.latency: dict[str, Any] = {}

    @property
    def _asked(self) -> list[str]:
        named = [section for section in FULL.sections if section in self._only]
        cases = self._only - set(FULL.sections)
        if cases and not named:
            return ["main"]
        return named or list(self._extent.sections)

    @property
    def measures_firstseen(self) -> bool:
        """Whether a worker is measured, and not peers alone."""
        names = self._only - set(FULL.sections)
        return (
            not names
            or any(name.startswith("firstseen") for name in names)
            or not {"state", "latency"}.isdisjoint(self._asked)
        )

    def measure(self, ground: Ground, cases: Cases) -> None:
        """Measure section by section."""
        asked = self._asked
        reserve = sum(_RESERVES.get(section, 0.0) for section in asked)
        for section in asked:
            say(f"--- {section} ({ground.seconds_left:.0f} s left)")
            if section == "state":
                self.state = measure_state(ground, self._extent, say)
            elif section == "latency":
                self._measure_latency(ground)
            else:
                chosen = self._chosen(cases.of(section))
                results = measure_cases(ground, chosen, self._extent, reserve=reserve, say=say)
                self.throughput[section] = {
                    result.case.name: result.as_json() for result in results
                }

    def _measure_latency(self, ground: Ground) -> None:
        try:
            self.latency = measure_latency(ground, self._extent.loads, self._extent.load_seconds)
        except UnavailableError as error:
            self.latency = {"problem": str(error)}
        for load, figures in self.latency.items():
            say(f"latency  {load:<34} {figures}")

    def _chosen(self, cases: list[Case]) -> list[Case]:
        names = self._only - set(FULL.sections)
        return [case for case in cases if not names or case.contestant.name in names]


def _results(run: Run, arguments: argparse.Namespace, seconds: float) -> dict[str, Any]:
    results: dict[str, Any] = {
        "ratios": ratios(run.throughput, run.state),
        "ratios_mean": MEANING,
        "goals": GOALS,
        "quick": arguments.quick,
        "scale": arguments.scale,
        "seconds": round(seconds),
        "throughput": run.throughput,
        "state": run.state,
        "latency": run.latency,
    }
    results["problems"] = problems(results)
    return results


def _listing() -> str:
    with tempfile.TemporaryDirectory() as directory:
        cases = Cases(FULL, Path(directory))
        lines = []
        for section in FULL.sections:
            lines.append(section)
            if section not in ("state", "latency"):
                lines += [
                    f"    {case.name:<36} {case.contestant.title}" for case in cases.of(section)
                ]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="the main figures within 5 minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the main figures there")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="a section or a contestant; may be given again",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the numbers of events")
    parser.add_argument("--rounds", type=int, help="how often everything is measured, at most")
    add_without_native(parser)
    parser.add_argument("--list", action="store_true", help="list sections and cases, and end")
    return parser


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.list:
        sys.stdout.write(f"{_listing()}\n")
        return 0
    if arguments.picture and not picture.is_available():
        parser.error("--picture needs matplotlib: uv run --group bench python -m tests.benchmarks")
    extent = (QUICK if arguments.quick else FULL).scaled(arguments.scale)
    if arguments.rounds:
        extent = replace(extent, rounds=arguments.rounds)
    run = Run(extent, frozenset(arguments.only))
    # A run that is told to stop cleans up: the blocks below end in order.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    installation = (
        installation_to_measure(say, without_native=arguments.without_native)
        if run.measures_firstseen
        else Installation.running()
    )
    begin = time.monotonic()
    try:
        with prepared_ground(extent.seconds, installation) as ground, ground.folder() as directory:
            machine = describe(ground.placement, native=installation.native)
            run.measure(ground, Cases(extent, directory))
    except KafkaUnavailableError as error:
        say(str(error))
        return 1
    results = {"machine": machine, **_results(run, arguments, time.monotonic() - begin)}
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    if arguments.picture:
        picture.draw(results, arguments.picture)
    sys.stdout.write(f"{summary(results)}\n")
    for problem in results["problems"]:
        say(f"problem: {problem}")
    return 1 if results["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
