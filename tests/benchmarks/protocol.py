"""What a contestant and the benchmark tell each other: one JSON object on argv, some on stdout.

A contestant is a program. It is given a `Task`, consumes a topic that was filled before, and
reports twice: `start` when its work begins (imports and start-up are over) and `done` at the end.
It takes the CPU time itself, from the kernel, for the whole process with all its threads.

Only the standard library is used here: peers with environments of their own import it too.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Task:
    """One measurement as the contestant sees it.

    Attributes:
        bootstrap: the broker.
        topic: filled with JSON events, without keys.
        ends: end offset of each partition.
        group: a consumer group that nobody has used; also the prefix of topics made on the way.
        directory: an empty folder for state.
        alerts: a topic for what was found.
        options: what only some contestants need.
    """

    bootstrap: str
    topic: str
    ends: dict[int, int]
    group: str
    directory: str
    alerts: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of events to consume."""
        return sum(self.ends.values())

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_arguments(cls) -> Task:
        """Return the task that the program was started with."""
        raw = json.loads(sys.argv[1])
        raw["ends"] = {int(partition): end for partition, end in raw["ends"].items()}
        return cls(**raw)


class Reporter:
    """Writes the two reports."""

    def start(self, consumed: int = 0) -> None:
        """Say that work begins; `consumed` events were handled before and do not count."""
        self._say(event="start", cpu=time.process_time(), wall=time.monotonic(), consumed=consumed)

    def done(self, *, consumed: int, found: int, **more: float) -> None:
        """Say that every event was handled.

        Args:
            consumed: events handled, those before `start` included.
            found: matches, or candidates for contestants that only search bytes.
            more: further figures for the raw results.
        """
        # ru_maxrss is kilobytes on Linux.
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self._say(
            event="done",
            cpu=time.process_time(),
            wall=time.monotonic(),
            consumed=consumed,
            found=found,
            rss_bytes=rss,
            **more,
        )

    def leave(self) -> None:
        """End at once: measured is measured, and an orderly stop can take many seconds."""
        sys.stdout.flush()
        os._exit(0)

    @staticmethod
    def _say(**report: float | str) -> None:
        sys.stdout.write(f"{json.dumps(report)}\n")
        sys.stdout.flush()
