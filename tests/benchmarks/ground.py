"""The ground of a run: one broker, topics filled before anything is measured, folders, a clock."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.environments import ROOT
from tests.benchmarks.generator import PARTITIONS, Corpus, Truth, truth
from tests.benchmarks.installation import Installation
from tests.benchmarks.machine import Placement, placed_on
from tests.benchmarks.measurement import UnavailableError
from tests.brokers import ApacheKafka, apache_kafka
from tests.clients import create_topic

_BROKER = {
    # What is measured is the consumer: the broker must have the topics in memory, not clean them.
    "log.segment.bytes": str(1 << 30),
    "log.retention.ms": "-1",
    # A broker that waits for its CPU while a topic is filled is not dead.
    "broker.heartbeat.interval.ms": "2000",
    "broker.session.timeout.ms": "60000",
}


@dataclass(frozen=True)
class Topic:
    """A filled topic and what is in it."""

    name: str
    corpus: Corpus
    ends: dict[int, int]
    truth: Truth

    @property
    def matches(self) -> int:
        return self.truth.matches_until(self.ends)

    @property
    def candidates(self) -> int:
        return self.truth.candidates_until(self.ends)


class Ground:
    """Where contestants run.

    Attributes:
        kafka: the broker.
        placement: who uses which CPU.
        directory: for state; gone afterwards.
        installation: which firstseen is measured.
    """

    def __init__(
        self,
        kafka: ApacheKafka,
        placement: Placement,
        directory: Path,
        installation: Installation,
        deadline: float,
    ) -> None:
        self.kafka = kafka
        self.placement = placement
        self.directory = directory
        self.installation = installation
        self._deadline = deadline
        self._topics: dict[tuple[Corpus, int], Topic] = {}

    @property
    def bootstrap(self) -> str:
        return self.kafka.bootstrap

    @property
    def logs(self) -> Path:
        """The folder of the broker's log segments."""
        return self.kafka.nodes[1].directory / "data"

    @property
    def seconds_left(self) -> float:
        return self._deadline - time.monotonic()

    def seconds(self, most: float) -> float:
        """Return a time limit: `most`, or what is left of the run.

        Raises:
            UnavailableError: nothing is left.
        """
        left = min(most, self.seconds_left)
        if left <= 1:
            raise UnavailableError("the time of the run is over")
        return left

    def topic(self, corpus: Corpus, partitions: int = PARTITIONS) -> Topic:
        """Return a topic that holds the corpus; the first call fills it."""
        known = self._topics.get((corpus, partitions))
        if known is None:
            known = self._topics[corpus, partitions] = self._fill(corpus, partitions)
        return known

    def _fill(self, corpus: Corpus, partitions: int) -> Topic:
        topic = self.empty_topic(f"{corpus.name}-{partitions}", corpus, partitions)
        self.produce(topic)
        return topic

    def empty_topic(self, name: str, corpus: Corpus, partitions: int = PARTITIONS) -> Topic:
        """Return a new topic that `produce` will fill with the corpus."""
        create_topic(self.bootstrap, name, partitions=partitions)
        known = truth(corpus, partitions)
        ends = {partition: len(sums) - 1 for partition, sums in enumerate(known.matches)}
        return Topic(name, corpus, ends, known)

    def produce(self, topic: Topic, first: int = 0, end: int | None = None) -> None:
        """Produce the events of a topic from number `first` on, to before `end`, and wait.

        Raises:
            UnavailableError: the time of the run does not suffice.
        """
        corpus = topic.corpus if end is None else replace(topic.corpus, count=end)
        with placed_on(self.placement.consumer):
            filling = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.benchmarks.generator", "--no-create"),
                    *("--bootstrap", self.bootstrap, "--topic", topic.name),
                    *("--count", str(corpus.count), "--seed", str(corpus.seed)),
                    *("--size", str(corpus.size), "--share", str(corpus.share)),
                    *("--distinct", str(corpus.distinct), "--terms", str(corpus.terms)),
                    *("--codec", corpus.codec),
                    *("--partitions", str(len(topic.ends)), "--first", str(first)),
                ],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        try:
            _, errors = filling.communicate(timeout=self.seconds(900))
        except subprocess.TimeoutExpired as exc:
            raise UnavailableError(f"{topic.name} was not filled in time") from exc
        finally:
            filling.kill()
            filling.communicate()
        if filling.returncode != 0:
            raise RuntimeError(f"cannot fill {topic.name}:\n{errors[-2000:]}")

    def new_group(self, contestant: str) -> str:
        """Return a consumer group that nobody has used."""
        return f"{contestant.replace('_', '-')}-{uuid.uuid4().hex[:8]}"

    def new_topic(self, name: str) -> str:
        """Create an empty topic."""
        create_topic(self.bootstrap, name, partitions=PARTITIONS)
        return name

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield an empty folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(dir=self.directory) as path:
            yield Path(path)


@contextmanager
def prepared_ground(seconds: float, installation: Installation) -> Iterator[Ground]:
    """Yield a ground with a running broker; the run has so many seconds from now on.

    The benchmark itself and the broker share a CPU: the benchmark waits while others are measured.
    """
    deadline = time.monotonic() + seconds
    placement = Placement.of_this_machine()
    with (
        placed_on(placement.broker),
        tempfile.TemporaryDirectory(prefix="firstseen-benchmark-") as directory,
        apache_kafka(configs=_BROKER) as kafka,
    ):
        yield Ground(kafka, placement, Path(directory), installation, deadline)
