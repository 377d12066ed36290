"""What a sweep costs the stream: event to alert, before and while expired terms leave the state.

    uv run python -m tests.benchmarks.sweep [--terms 300000] [--rate 1000] [--seconds 40] [--json FILE]

A worker is taught so many terms that were last seen a month before, by a rule that remembers two
weeks. Then events come by the clock, some of them a new term, as `tests.benchmarks.latency` has it:
once before the sweep comes to the terms, and once while it removes them. The second figure counts
only if terms left from its beginning to its end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.cli.loading import read_rules
from pipeline.config import Settings
from pipeline.embedded.process import wait_until
from pipeline.engine.wire import Learn
from pipeline.history import Sender
from pipeline.kql import FieldTable
from tests.benchmarks.command import add_without_native, command_parser, say, tell
from tests.benchmarks.firstseen import FIRSTSEEN, wait_ready
from tests.benchmarks.generator import PARTITIONS
from tests.benchmarks.ground import Ground, prepared_ground
from tests.benchmarks.installation import installation_to_measure
from tests.benchmarks.latency import RULE, LatencyBench
from tests.benchmarks.machine import describe
from tests.benchmarks.measurement import UnavailableError
from tests.clients import create_topic
from tests.deployment import Deployment, WorkerProcess
from tests.events import START

SHARE = 0.03
_MONTH_MS = 30 * 86_400_000
_SPARE_SECONDS = 40.0
_FIRST_PASS_SECONDS = 6.0
_WAIT_SECONDS = 300.0


class SweepBench:
    """A worker whose state is full of terms that are over."""

    def __init__(self, ground: Ground, worker: WorkerProcess, bench: LatencyBench) -> None:
        self._ground = ground
        self._worker = worker
        self._bench = bench

    def removed(self) -> int:
        return int(self._worker.metric("firstseen_state_removed_total", reason="expired"))

    def kept(self) -> int:
        return int(self._worker.metric("firstseen_state_rule_entries"))

    def before(self, *, rate: float, seconds: float) -> dict[str, float]:
        """Return latencies while nothing is removed."""
        figures = self._bench.measure(rate=rate, seconds=seconds)
        if self.removed():
            raise UnavailableError("the sweep began too early: --seconds is too long")
        return figures

    def meanwhile(self, terms: int, *, rate: float, seconds: float) -> dict[str, float]:
        """Return latencies while terms are removed, and how many are in a second."""
        wait = self._ground.seconds(_WAIT_SECONDS)
        if not wait_until(lambda: self.removed() > 0, seconds=wait):
            raise UnavailableError("the sweep removes nothing")
        first, begin, kept = self.removed(), time.monotonic(), self.kept()
        figures = self._bench.measure(rate=rate, seconds=seconds)
        last, end = self.removed(), time.monotonic()
        if last >= terms:
            raise UnavailableError("the sweep was over too soon: --terms are too few")
        # The new terms that came meanwhile stay: were they what leaves, nothing would be shown.
        if self.kept() > kept:
            raise UnavailableError("more terms came than were removed")
        return figures | {"removed_per_second": round((last - first) / (end - begin))}


def teach(deployment: Deployment, rule: Path, terms: int) -> None:
    """Let the workers learn terms that were last seen a month before the load's events."""
    (compiled,) = read_rules([rule], FieldTable.builtin()).ruleset.runnable
    seen_ms = round(START.timestamp() * 1000) - _MONTH_MS
    with Sender(Settings.load(environ=deployment.env)) as sender:
        for number in range(terms):
            sender.learn(
                Learn(
                    rule_id=compiled.rule.rule_id,
                    history=compiled.history_id,
                    window_ms=compiled.rule.new_terms.history_ms if compiled.rule.new_terms else 0,
                    terms=tuple(f"taught-{number}" for _ in compiled.terms),
                    first_ms=seen_ms,
                    last_ms=seen_ms,
                )
            )


@contextmanager
def full_state(ground: Ground, terms: int, seconds: float) -> Iterator[SweepBench]:
    """Yield the bench when the worker has learned the terms and is warm.

    The first pass of the sweep goes over nothing. The second, which only looks, comes when the
    first measurement is through, and the third removes.
    """
    topic = ground.new_group("sweep")
    create_topic(ground.bootstrap, topic, partitions=PARTITIONS)
    with ground.folder() as directory:
        rule = directory / "rule.toml"
        rule.write_text(RULE)
        settings = {
            "FIRSTSEEN_RULES__PATHS": str(rule),
            "FIRSTSEEN_STREAM__COMMIT_INTERVAL": "1s",
            "FIRSTSEEN_STATE__SWEEP_INTERVAL": f"{seconds + _SPARE_SECONDS:.0f}s",
        }
        with FIRSTSEEN.deployed(ground, topic, settings) as deployment:
            (worker,) = FIRSTSEEN.start(ground, deployment)
            wait_ready(ground, worker)
            # What comes before the first pass is removed by the second, which would hide the third.
            time.sleep(_FIRST_PASS_SECONDS)
            bench = LatencyBench(ground, deployment, SHARE)
            try:
                teach(deployment, rule, terms)
                wait = ground.seconds(_WAIT_SECONDS)
                if not wait_until(
                    lambda: worker.metric("firstseen_state_rule_entries") >= terms, seconds=wait
                ):
                    raise UnavailableError("the terms were not learned in time")
                bench.measure(rate=500, seconds=2)
                yield SweepBench(ground, worker, bench)
            finally:
                bench.stop()


def main() -> int:
    parser = command_parser("sweep", __doc__)
    parser.add_argument("--terms", type=int, default=300_000, help="that are over")
    parser.add_argument("--rate", type=int, default=1000, help="events a second")
    parser.add_argument("--seconds", type=float, default=40, help="of each measurement")
    add_without_native(parser)
    arguments = parser.parse_args()
    installation = installation_to_measure(say, without_native=arguments.without_native)
    load = {"rate": arguments.rate, "seconds": arguments.seconds}
    with prepared_ground(580, installation) as ground:
        with full_state(ground, arguments.terms, arguments.seconds) as bench:
            figures = {
                "before": bench.before(**load),
                "meanwhile": bench.meanwhile(arguments.terms, **load),
            }
        machine = describe(ground.placement, native=installation.native)
    tell({"machine": machine, "latency_seconds": figures}, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
