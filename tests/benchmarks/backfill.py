"""How fast a rule learns from the log, beside the worker and the replay on the same events.

    uv run python -m tests.benchmarks.backfill [--count 400000] [--rounds 3] [--json FILE]

Three programs look at the same events for the built-in rule, in turn:

    backfill   `firstseen history backfill`, from a filled topic
    worker     `firstseen worker`, from the same topic, as the other benchmarks measure it
    replay     `firstseen replay`, from a file

Figures are events per CPU-second of the process, and per second. Of the two commands the start is
left out: what the same command takes where there is nothing to read. A figure counts only if the
program has read every event and found terms.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.command import add_without_native, command_parser, say, tell
from tests.benchmarks.environments import ROOT
from tests.benchmarks.firstseen import BUILTIN_RULE, Firstseen
from tests.benchmarks.generator import Corpus
from tests.benchmarks.ground import Ground, Topic, prepared_ground
from tests.benchmarks.installation import installation_to_measure
from tests.benchmarks.machine import describe, placed_on
from tests.benchmarks.measurement import UnavailableError
from tests.benchmarks.statistics import Spread
from tests.deployment import Deployment

_SECONDS = 600.0


@dataclass(frozen=True)
class Used:
    """What a command took, and what it said."""

    cpu: float
    wall: float
    out: str


def run_command(ground: Ground, deployment: Deployment, *arguments: str) -> Used:
    """Run a command on the CPU of what is measured.

    Raises:
        UnavailableError: it failed.
    """
    begin, before = time.monotonic(), os.times()
    with placed_on(ground.placement.consumer):
        done = subprocess.run(
            [deployment.python, "-m", "pipeline", *arguments],
            env={**os.environ, **deployment.env},
            capture_output=True,
            text=True,
            timeout=ground.seconds(_SECONDS),
            check=False,
        )
    wall, after = time.monotonic() - begin, os.times()
    if done.returncode != 0:
        raise UnavailableError(f"firstseen {' '.join(arguments)}: {done.stderr[-500:]}")
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return Used(cpu, wall, done.stdout)


class BackfillBench:
    """The three programs on one topic.

    Args:
        ground: where.
        topic: filled.
        full: a deployment that reads the topic.
        empty: one whose input is empty.
        files: the same events in a file, and an empty one.
    """

    def __init__(
        self,
        ground: Ground,
        topic: Topic,
        full: Deployment,
        empty: Deployment,
        files: tuple[Path, Path],
    ) -> None:
        self._ground = ground
        self._topic = topic
        self._full = full
        self._empty = empty
        self._events, self._nothing = files

    def backfill(self) -> tuple[float, float]:
        """Return events per CPU-second and per second."""
        command = ("history", "backfill", "--rule", BUILTIN_RULE, "--json", "--again")
        idle = run_command(self._ground, self._empty, *command)
        used = run_command(self._ground, self._full, *command)
        summary = json.loads(used.out)
        read, learned = summary["read"], summary["learned"]
        if read != self._topic.corpus.count or not learned:
            raise UnavailableError(f"the backfill has read {read} events, learned {learned} terms")
        return self._rates(used, idle)

    def replay(self) -> tuple[float, float]:
        """Return the same figures of a replay."""
        idle = run_command(self._ground, self._full, "replay", str(self._nothing))
        used = run_command(self._ground, self._full, "replay", str(self._events))
        if not used.out:
            raise UnavailableError("the replay has found nothing")
        return self._rates(used, idle)

    def worker(self) -> tuple[float, float]:
        """Return the same figures of a worker."""
        run = Firstseen("firstseen", "firstseen").measure(self._ground, self._topic)
        if run.void is not None:
            raise UnavailableError(run.void)
        return run.per_cpu_second, run.per_second

    def _rates(self, used: Used, idle: Used) -> tuple[float, float]:
        count = self._topic.corpus.count
        return count / (used.cpu - idle.cpu), count / (used.wall - idle.wall)


def measure(ground: Ground, *, count: int, rounds: int) -> dict[str, object]:
    """Return the figures of each program: medians of so many rounds, each in turn."""
    corpus = Corpus(count)
    topic = ground.topic(corpus)
    nothing = ground.new_topic(ground.new_group("nothing"))
    one = Firstseen("firstseen", "firstseen")
    found: dict[str, list[tuple[float, float]]] = {}
    with (
        one.deployed(ground, topic.name) as full,
        one.deployed(ground, nothing) as empty,
        ground.folder() as folder,
    ):
        files = folder / "events.ndjson", folder / "nothing.ndjson"
        _write(corpus, files[0])
        files[1].touch()
        bench = BackfillBench(ground, topic, full, empty, files)
        programs: dict[str, Callable[[], tuple[float, float]]] = {
            "backfill": bench.backfill,
            "worker": bench.worker,
            "replay": bench.replay,
        }
        for _ in range(rounds):
            for name, program in programs.items():
                found.setdefault(name, []).append(program())
    return {
        name: {
            "events_per_cpu_second": Spread.of([cpu for cpu, _ in runs]).as_json(),
            "events_per_second": Spread.of([wall for _, wall in runs]).as_json(),
        }
        for name, runs in found.items()
    }


def _write(corpus: Corpus, file: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.generator", "--count", str(corpus.count)]
    with file.open("wb") as lines:
        subprocess.run(command, cwd=ROOT, stdout=lines, check=True)


def main() -> int:
    parser = command_parser("backfill", __doc__)
    parser.add_argument("--count", type=int, default=400_000, help="events, of 2.4 KB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1200, help="time limit of the whole run")
    add_without_native(parser)
    arguments = parser.parse_args()
    installation = installation_to_measure(say, without_native=arguments.without_native)
    with prepared_ground(arguments.seconds, installation) as ground:
        figures = measure(ground, count=arguments.count, rounds=arguments.rounds)
        machine = describe(ground.placement, native=installation.native)
    tell({"machine": machine, "figures": figures}, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
