"""The machine of a run: who may use which CPU, and what it is."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.brokers import java_command


@dataclass(frozen=True)
class Placement:
    """Which CPUs the broker and the benchmark itself use, and which the measured consumer.

    On a machine with one CPU both are that one, and the wall clock says little.
    """

    broker: frozenset[int]
    consumer: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> Placement:
        first, *others = sorted(os.sched_getaffinity(0))
        return cls(frozenset({first}), frozenset(others[:1] or {first}))


@contextmanager
def placed_on(cpus: AbstractSet[int]) -> Iterator[None]:
    """Processes started inside run on these CPUs: the affinity is inherited."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe(placement: Placement, *, native: bool) -> dict[str, object]:
    """Return what a reader of the figures has to know about the machine and the versions.

    Args:
        placement: who uses which CPU.
        native: whether the measured worker uses `firstseen-native`.
    """
    java = subprocess.run([java_command(), "-version"], capture_output=True, text=True, check=True)
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "broker_on": sorted(placement.broker),
        "consumer_on": sorted(placement.consumer),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "java": java.stderr.splitlines()[0],
        "native": native,
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {
            name: version(name)
            for name in ("faust-streaming", "aiokafka", "confluent-kafka", "cramjam", "zstandard")
        },
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
