"""firstseen as a contestant: its worker as users run it, watched from outside.

The worker knows nothing of being measured. The measurement begins when its `/readyz` says so, less
what it has handled by then, and ends when the broker knows everything as committed, in every stage:
alerts and state are acknowledged by then. The CPU time is the kernel's figure for the process.

Where that is not exact enough (several workers, or state that must be there before), the start is
*frozen*: the workers get ready, are stopped by SIGSTOP, the topic is filled, and all go on at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from confluent_kafka import Consumer, TopicPartition

from pipeline.config import Settings
from pipeline.kafka.groups import GroupOffsets
from pipeline.rules import builtin_path
from tests.benchmarks.generator import Corpus, events_until_known
from tests.benchmarks.ground import Ground, Topic
from tests.benchmarks.machine import placed_on
from tests.benchmarks.measurement import Measurement, UnavailableError
from tests.brokers import Broker
from tests.clients import client_config
from tests.deployment import Deployment, WorkerProcess

BUILTIN_RULE = "852c1f19-68e8-43a6-9dce-340771fe1be3"
COMMIT_INTERVAL = "250ms"
PATIENT = {
    "FIRSTSEEN_KAFKA__SESSION_TIMEOUT": "20m",
    "FIRSTSEEN_KAFKA__REQUEST_TIMEOUT": "25m",
    "FIRSTSEEN_KAFKA__MAX_POLL_INTERVAL": "25m",
    "FIRSTSEEN_KAFKA__DELIVERY_TIMEOUT": "25m",
}
"""Settings of a worker that is frozen for minutes and must not mind."""

_MEASUREMENT_SECONDS = 1200.0
_POLL_SECONDS = 0.02
_STAGES = ("observations", "new_terms")


@dataclass(frozen=True)
class Firstseen:
    """A way to run the worker.

    Attributes:
        name: as in the results.
        title: as in the picture.
        pace: how many events it is given.
        rules: rule files beside the built-in one, which is always there.
        depth: None for the product as it is, else a value of the setting `stream.filter_depth`.
        workers: how many of them share the work.
        native: whether `firstseen-native` is used, if it is in the installation.
    """

    name: str
    title: str
    pace: str = "fast"
    rules: tuple[Path, ...] = ()
    depth: str | None = None
    workers: int = 1
    native: bool = True

    def measure(self, ground: Ground, topic: Topic) -> Measurement:
        """Run one worker once over a filled topic.

        Raises:
            UnavailableError: it did not get ready, or did not finish.
        """
        with self.deployed(ground, topic.name) as deployment:
            watch = Watch(ground, deployment, topic, self.start(ground, deployment))
            begin = watch.until_ready()
            return self.result(watch, begin, watch.until_done())

    def measure_frozen(self, ground: Ground, corpus: Corpus, partitions: int) -> Measurement:
        """Run the workers once over a topic that is filled while they are frozen.

        What the corpus says about its terms first is done before that.

        Raises:
            UnavailableError: they did not get ready, or did not finish.
        """
        topic = ground.empty_topic(ground.new_group("frozen"), corpus, partitions)
        with self.deployed(ground, topic.name, PATIENT) as deployment:
            watch = Watch(ground, deployment, topic, self.start(ground, deployment))
            watch.until_ready()
            known = events_until_known(corpus)
            if known:
                ground.produce(topic, end=known)
                watch.until_done(known)
            with watch.frozen():
                ground.produce(topic, first=known)
                begin = watch.sample()
            return self.result(watch, begin, watch.until_done())

    def result(self, watch: Watch, begin: Sample, end: Sample) -> Measurement:
        """Return what lies between two samples, with the counts of the whole run."""
        return Measurement(
            contestant=self.name,
            events=end.read - begin.read,
            cpu_seconds=end.cpu - begin.cpu,
            wall_seconds=end.wall - begin.wall,
            consumed=end.read,
            found=watch.metric("firstseen_rule_matches_total", rule_id=BUILTIN_RULE),
            expected=watch.topic.matches,
            expected_consumed=watch.topic.corpus.count,
            more={
                "rss_bytes": watch.peak_rss,
                "dead_letters": watch.metric("firstseen_dead_letters_total"),
            },
        )

    @contextmanager
    def deployed(
        self, ground: Ground, topic: str, settings: dict[str, str] | None = None
    ) -> Iterator[Deployment]:
        """Yield a deployment that reads the topic; its workers are gone afterwards."""
        with ground.folder() as directory:
            deployment = Deployment(
                Broker("kafka", ground.bootstrap),
                ground.new_group(self.name),
                directory,
                settings={
                    "FIRSTSEEN_TOPICS__INPUTS": topic,
                    "FIRSTSEEN_STREAM__COMMIT_INTERVAL": COMMIT_INTERVAL,
                    "FIRSTSEEN_KAFKA__SESSION_TIMEOUT": "45s",
                    "FIRSTSEEN_KAFKA__REQUEST_TIMEOUT": "90s",
                    **ground.installation.settings,
                    **self._own_settings(),
                    **(settings or {}),
                },
                python=ground.installation.python,
            )
            try:
                deployment.command("topics", "apply")
                yield deployment
            finally:
                deployment.stop_workers()

    def start(self, ground: Ground, deployment: Deployment) -> list[WorkerProcess]:
        """Start the workers on the consumer's CPU."""
        with placed_on(ground.placement.consumer):
            return [deployment.start_worker(f"worker-{number}") for number in range(self.workers)]

    def _own_settings(self) -> dict[str, str]:
        settings = {}
        if self.depth is not None:
            settings["FIRSTSEEN_STREAM__FILTER_DEPTH"] = self.depth
        if not self.native:
            settings["FIRSTSEEN_STREAM__NATIVE"] = "off"
        if self.rules:
            paths = (builtin_path(), *self.rules)
            settings["FIRSTSEEN_RULES__PATHS"] = ",".join(map(str, paths))
        return settings


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment: CPU and wall seconds, records committed of the input."""

    wall: float
    cpu: float
    read: int


@dataclass
class Watch:
    """Looks at the workers of a deployment from outside."""

    ground: Ground
    deployment: Deployment
    topic: Topic
    workers: Sequence[WorkerProcess]
    peak_rss: int = 0
    _processes: list[psutil.Process] = field(init=False)
    _consumer: Consumer = field(init=False)

    def __post_init__(self) -> None:
        self._processes = [psutil.Process(worker.process.pid) for worker in self.workers]
        self._consumer = Consumer(
            client_config(self.ground.bootstrap) | {"group.id": self.deployment.prefix}
        )
        self._offsets = GroupOffsets(Settings(), self._consumer, self.deployment.prefix)
        self._stages = {name: self._partitions(self.deployment.topic(name)) for name in _STAGES}

    def until_ready(self) -> Sample:
        """Wait until every worker is ready; what they have read by then is in the sample.

        Raises:
            UnavailableError: it takes too long, or a worker ended.
        """
        for worker in self.workers:
            wait_ready(self.ground, worker)
        read = self.metric("firstseen_records_processed_total", topic=self.topic.name)
        return Sample(time.monotonic(), self._cpu(), read)

    def until_done(self, count: int | None = None) -> Sample:
        """Wait until `count` events (default: all) are done and committed in every stage.

        Raises:
            UnavailableError: it takes too long, or a worker ended.
        """
        wanted = self.topic.corpus.count if count is None else count
        deadline = time.monotonic() + self.ground.seconds(_MEASUREMENT_SECONDS)
        while True:
            sample = self.sample()
            if sample.read >= wanted and self._stages_done():
                return self.sample()
            for worker in self.workers:
                if worker.process.poll() is not None:
                    raise UnavailableError(f"a worker ended: {worker.tail(20)}")
            if time.monotonic() > deadline:
                raise UnavailableError(f"only {sample.read} of {wanted} events in time")
            time.sleep(_POLL_SECONDS)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the workers (SIGSTOP) for the time of the block."""
        for process in self._processes:
            process.suspend()
        try:
            yield
        finally:
            for process in self._processes:
                process.resume()

    def sample(self) -> Sample:
        """Look once: the offsets first, so that no CPU time is missed that belongs to them."""
        read = self.committed(TopicPartition(self.topic.name, p) for p in self.topic.ends)
        return Sample(time.monotonic(), self._cpu(), read)

    def committed(self, partitions: Iterator[TopicPartition]) -> int:
        """Return the sum of the committed offsets."""
        answer = self._offsets.read((each.topic, each.partition) for each in partitions)
        return sum(each.offset for each in answer)

    def metric(self, name: str, **labels: str) -> int:
        """Return a counter, all workers together."""
        return int(sum(worker.metric(name, **labels) for worker in self.workers))

    def _cpu(self) -> float:
        seconds = 0.0
        for process in self._processes:
            with process.oneshot():
                times = process.cpu_times()
                seconds += times.user + times.system
                self.peak_rss = max(self.peak_rss, process.memory_info().rss)
        return seconds

    def _partitions(self, topic: str) -> list[TopicPartition]:
        known = self._consumer.list_topics(topic, timeout=30).topics[topic].partitions
        return [TopicPartition(topic, partition) for partition in known]

    def _stages_done(self) -> bool:
        """Whether the inner stages have committed all that the stages before them wrote."""
        for partitions in self._stages.values():
            ends = sum(self._consumer.get_watermark_offsets(p, timeout=30)[1] for p in partitions)
            if self.committed(iter(partitions)) < ends:
                return False
        return True


def wait_ready(ground: Ground, worker: WorkerProcess, most: float = 90.0) -> None:
    """Wait until a worker is ready.

    Raises:
        UnavailableError: it ended, or takes longer than `most` seconds or what is left of the run.
    """
    try:
        worker.wait_ready(ground.seconds(most))
    except (RuntimeError, TimeoutError) as error:
        raise UnavailableError(f"the worker did not get ready: {error}") from error


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


FIRSTSEEN = Firstseen("firstseen", "firstseen, 1 rule")
FIRSTSEEN_PYTHON = Firstseen("firstseen_python", "firstseen without firstseen-native", native=False)
