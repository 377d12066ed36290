"""How long processing stands still while workers join, leave, restart or die.

    uv run python -m tests.benchmarks.rebalance [--workers 4] [--partitions 64] [--json FILE]

Events are produced by the clock on every input partition, whatever the workers do; each is a new
term. The stall of a partition is the longest time between two alerts of its events that follow each
other, as they were read from the alerts topic: it takes in all three stages, and whoever has to give
partitions away, find its state or catch up. Without any change it is the pause between two events.

Broker, load and workers share the CPUs of one machine: with few of them, much of a stall is the wait
for a CPU, and `cpu_percent` says how busy all of them were meanwhile.

What is done to the group, one after the other, each until every partition goes on again:

    join       one worker more
    leave      that worker is told to stop
    restart    a worker is told to stop and is started again at once, with its state folder
    kill       a worker is killed; the others wait for its session to end
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import psutil
from confluent_kafka import Producer

from pipeline.embedded.process import wait_until
from tests.benchmarks.alert_reader import AlertReader
from tests.benchmarks.command import add_without_native, command_parser, say, tell
from tests.benchmarks.ground import Ground, prepared_ground
from tests.benchmarks.installation import installation_to_measure
from tests.benchmarks.latency import RULE
from tests.benchmarks.machine import describe, placed_on
from tests.benchmarks.measurement import UnavailableError
from tests.benchmarks.statistics import percentile
from tests.brokers import Broker
from tests.clients import client_config
from tests.deployment import Deployment, WorkerProcess
from tests.events import encode, library_event

CHANGES = ("join", "leave", "restart", "kill")
_START_SECONDS = 120.0
_WARM_SECONDS = 5.0
_QUIET_SECONDS = 3.0


class Load(threading.Thread):
    """Produces new terms by the clock, partition by partition in turn.

    Attributes:
        interval: seconds between two events of a partition.
    """

    def __init__(self, deployment: Deployment, *, rate: float, partitions: int) -> None:
        super().__init__(daemon=True)
        self._topic = deployment.input
        self._rate = rate
        self._partitions = partitions
        self._enough = threading.Event()
        self._producer = Producer(
            client_config(deployment.broker.bootstrap) | {"linger.ms": 5, "acks": "all"}
        )
        self.interval = partitions / rate

    def run(self) -> None:
        start, number = time.monotonic(), 0
        while not self._enough.is_set():
            while (wait := start + number / self._rate - time.monotonic()) > 0:
                self._producer.poll(min(wait, 0.01))
            partition = number % self._partitions
            event = library_event(number=number, host=f"h{partition}", executable=f"{number}.exe")
            self._producer.produce(self._topic, encode(event), partition=partition)
            number += 1
        self._producer.flush(30)

    def stop(self) -> None:
        self._enough.set()
        self.join()


class Arrivals(AlertReader):
    """Notes when an alert of each input partition came."""

    def __init__(self, deployment: Deployment, partitions: int) -> None:
        self.by_partition: list[list[float]] = [[] for _ in range(partitions)]
        super().__init__(deployment, "arrivals", fetch_wait_ms=20)

    def note(self, alert: dict[str, Any], at: float) -> None:
        self.by_partition[int(alert["host"]["id"].removeprefix("h"))].append(at)

    def all_since(self, moment: float) -> bool:
        """Whether every partition has had an alert since."""
        return all(times and times[-1] > moment for times in self.by_partition)

    def stalls(self, begin: float, end: float) -> list[float]:
        """Return the longest pause of each partition between two moments, ascending."""
        stalls = []
        for times in self.by_partition:
            inside = [begin, *(at for at in list(times) if begin < at < end), end]
            stalls.append(max(b - a for a, b in pairwise(inside)))
        return sorted(stalls)


@dataclass
class Group:
    """The workers of one group, named after their state folders."""

    deployment: Deployment
    partitions: int
    static: bool
    running: dict[str, WorkerProcess] = field(default_factory=dict)

    def start(self, name: str) -> None:
        identity = {"FIRSTSEEN_KAFKA__GROUP_INSTANCE_ID": name} if self.static else {}
        self.running[name] = self.deployment.start_worker(name, **identity)

    def stop(self, name: str) -> None:
        code = self.running.pop(name).stop()
        if code != 0:
            raise UnavailableError(f"worker {name} ended with {code} when told to stop")

    def kill(self, name: str) -> None:
        self.running.pop(name).kill()

    def settled(self) -> bool:
        """Whether every partition of the input is assigned to a worker that is ready."""
        workers = list(self.running.values())
        topic = self.deployment.input
        return all(worker.ready() for worker in workers) and self.partitions == sum(
            worker.metric("firstseen_assigned_partitions", topic=topic) for worker in workers
        )


class RebalanceBench:
    """A group under load; `measure` what one change after another costs."""

    def __init__(self, ground: Ground, group: Group, *, rate: float) -> None:
        self._ground = ground
        self._group = group
        self._load = Load(group.deployment, rate=rate, partitions=group.partitions)
        self._arrivals = Arrivals(group.deployment, group.partitions)
        self._names = [f"worker-{n}" for n in range(100)]

    def start(self, workers: int) -> None:
        """Start the group with one worker less than there will be, and the load."""
        for name in self._names[: workers - 1]:
            self._group.start(name)
        self._wait(self._group.settled, "the group did not settle")
        self._load.start()
        self._arrivals.start()
        self._wait(lambda: self._arrivals.all_since(0.0), "no alert came")
        time.sleep(_WARM_SECONDS)

    def measure(self, change: str, workers: int) -> dict[str, object]:
        """Change the group; return the stalls, in seconds, once it has settled."""
        last = self._names[workers - 1]
        psutil.cpu_percent()
        begin = time.monotonic()
        if change == "join":
            self._group.start(last)
        elif change == "leave":
            self._group.stop(last)
        elif change == "restart":
            self._group.stop(self._names[0])
            self._group.start(self._names[0])
        else:
            self._group.kill(self._names[0])
        self._wait(self._group.settled, f"{change}: the group did not settle")
        quiet = time.monotonic()
        self._wait(lambda: self._arrivals.all_since(quiet), f"{change}: no alerts")
        time.sleep(_QUIET_SECONDS)
        stalls = self._arrivals.stalls(begin, time.monotonic())
        return {
            "p50": round(percentile(stalls, 50), 2),
            "max": round(stalls[-1], 2),
            "settled_after": round(quiet - begin, 1),
            "cpu_percent": psutil.cpu_percent(),
        }

    def stop(self) -> None:
        self._load.stop()
        self._arrivals.stop()

    def undisturbed(self, seconds: float = 5.0) -> dict[str, object]:
        """Return the same figures while nothing changes."""
        psutil.cpu_percent()
        begin = time.monotonic()
        time.sleep(seconds)
        stalls = self._arrivals.stalls(begin, time.monotonic())
        return {
            "p50": round(percentile(stalls, 50), 2),
            "max": round(stalls[-1], 2),
            "cpu_percent": psutil.cpu_percent(),
        }

    def _wait(self, condition: Callable[[], bool], otherwise: str) -> None:
        if not wait_until(condition, seconds=self._ground.seconds(_START_SECONDS)):
            raise UnavailableError(otherwise)


def measure_rebalances(
    ground: Ground,
    *,
    workers: int,
    partitions: int,
    rate: float,
    changes: tuple[str, ...] = CHANGES,
    static: bool = False,
    settings: dict[str, str] | None = None,
) -> dict[str, object]:
    """Return the figures of each change to a group of so many workers."""
    with ground.folder() as directory:
        rule = directory / "rebalance.toml"
        rule.write_text(RULE)
        deployment = Deployment(
            Broker("kafka", ground.bootstrap),
            ground.new_group("rebalance"),
            directory,
            input_partitions=partitions,
            settings={
                "FIRSTSEEN_RULES__PATHS": str(rule),
                **_DEFAULTS,
                **ground.installation.settings,
                **(settings or {}),
            },
            python=ground.installation.python,
        )
        deployment.create_input()
        deployment.command("topics", "apply")
        bench = RebalanceBench(ground, Group(deployment, partitions, static), rate=rate)
        try:
            bench.start(workers)
            figures: dict[str, object] = {"undisturbed": bench.undisturbed()}
            for change in changes:
                figures[change] = bench.measure(change, workers)
            bench.stop()
            return figures
        finally:
            deployment.stop_workers()


# The deployment of the tests is impatient; what is measured here is the product as it comes.
_DEFAULTS = {
    "FIRSTSEEN_STREAM__COMMIT_INTERVAL": "1s",
    "FIRSTSEEN_KAFKA__SESSION_TIMEOUT": "15s",
    "FIRSTSEEN_KAFKA__HEARTBEAT_INTERVAL": "1s",
    "FIRSTSEEN_KAFKA__REQUEST_TIMEOUT": "90s",
}


def main() -> int:
    parser = command_parser("rebalance", __doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--partitions", type=int, default=64, help="of the input")
    parser.add_argument("--rate", type=float, default=192, help="events a second, all new terms")
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=CHANGES)
    parser.add_argument("--static", action="store_true", help="with static membership")
    parser.add_argument("--set", nargs="*", default=[], metavar="VARIABLE=VALUE", help="settings")
    parser.add_argument("--seconds", type=float, default=560, help="time limit of the whole run")
    add_without_native(parser)
    arguments = parser.parse_args()
    installation = installation_to_measure(say, without_native=arguments.without_native)
    every_cpu = os.sched_getaffinity(0)
    with prepared_ground(arguments.seconds, installation) as ground, placed_on(every_cpu):
        figures = measure_rebalances(
            ground,
            workers=arguments.workers,
            partitions=arguments.partitions,
            rate=arguments.rate,
            changes=tuple(arguments.changes),
            static=arguments.static,
            settings=dict(pair.split("=", 1) for pair in arguments.set),
        )
        machine = describe(ground.placement, native=installation.native)
    tell({"machine": machine, "stall_seconds": figures}, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
