"""Chaos: real workers on a real Kafka cluster, and everything that can go wrong, by seed.

    uv run python -m tests.chaos [--runs N] [--seed S] [--json FILE] [--only KIND]...
                                 [--faults N] [--seconds S] [--events N] [--terms N] [--keep DIR]
    uv run python -m tests.chaos --add-up FILE... [--json FILE]

A run sends an event file with known new terms through three workers on three brokers (replication
3, min.insync 2) and injects faults at random moments. Afterwards every new term must have been told
once, under one id, and nothing else. `--add-up` makes one result of several, also of results that
were added up.

Needs Apache Kafka's artifacts (tests/kafka/pom.xml) and a Java 17.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.brokers import KafkaUnavailableError
from tests.chaos.cluster import cluster
from tests.chaos.faults import MAX_WORKERS
from tests.chaos.report import add_up, markdown, problems
from tests.chaos.run import Plan, run
from tests.chaos.schedule import Kind

SLOTS = [chr(ord("a") + number) for number in range(MAX_WORKERS)]


def say(text: str) -> None:
    """Tell a person how it goes, on standard error."""
    sys.stderr.write(f"{text}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--runs", type=int, default=1, help="how many runs (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first run (default 1)")
    parser.add_argument("--faults", type=int, default=20, help="faults of a run (default 20)")
    parser.add_argument("--seconds", type=float, help="time they begin in (default 4 s a fault)")
    parser.add_argument("--events", type=int, default=50_000, help="events of a run")
    parser.add_argument("--terms", type=int, default=2_000, help="new terms of a run")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=[kind.name.lower() for kind in Kind],
        help="kind of faults; may be given again (default all)",
    )
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--keep", type=Path, help="folder for the logs of runs that went wrong")
    parser.add_argument("--add-up", type=Path, nargs="+", help="results to make one of")
    return parser


def _runs(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    seconds = arguments.seconds or 4.0 * arguments.faults
    only = frozenset(Kind[name.upper()] for name in arguments.only)
    results = []
    with (
        tempfile.TemporaryDirectory(prefix="firstseen-chaos-") as folder,
        cluster(SLOTS) as brokers,
    ):
        for seed in range(arguments.seed, arguments.seed + arguments.runs):
            plan = Plan(seed, arguments.events, arguments.terms, arguments.faults, seconds, only)
            say(f"run of seed {seed}")
            directory = Path(folder) / f"seed-{seed}"
            result = run(brokers, plan, directory, say)
            results.append(result)
            _tell(result, directory, arguments.keep)
            if arguments.json:
                arguments.json.write_text(json.dumps(add_up(results), indent=1) + "\n")
    return results


def _tell(result: dict[str, Any], directory: Path, keep: Path | None) -> None:
    summed = add_up([result])
    wrong = problems(summed)
    say(
        f"  lost {summed['lost']}, invented {summed['invented']}, "
        f"duplicated {summed['duplicated']}, recovery {summed['recovery_seconds']}, "
        f"{summed['worker_kills']} kills, exits {summed['worker_exits']}, {result['seconds']} s"
    )
    for line in wrong:
        say(f"  WRONG: {line}")
    if keep is not None and (wrong or summed["duplicated"]):
        kept = keep / directory.name
        shutil.copytree(
            directory, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("disk", "state")
        )
        say(f"  logs in {kept}")


def _added_up(files: list[Path]) -> list[dict[str, Any]]:
    return [run for file in files for run in json.loads(file.read_text())["details"]]


def main() -> int:
    arguments = _parser().parse_args()
    begin = time.monotonic()
    # As on Ctrl-C: brokers, workers and their disks are taken down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        runs = _added_up(arguments.add_up) if arguments.add_up else _runs(arguments)
    except KafkaUnavailableError as error:
        say(str(error))
        return 1
    results = add_up(runs)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    print(markdown(results))  # noqa: T201
    say(f"{time.monotonic() - begin:.0f} s")
    wrong = problems(results)
    for line in wrong:
        say(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
