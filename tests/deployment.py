"""A firstseen deployment of one test: its topics, its workers as processes, what came out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Message
from confluent_kafka.admin import AdminClient
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from pipeline.config import Settings
from pipeline.embedded.process import free_ports, wait_until
from pipeline.engine.identity import KEY_BYTES
from pipeline.kafka.clients import admin_client
from pipeline.kafka.topics import apply, describe_cluster, load_topic_specs, plan
from tests.brokers import Broker
from tests.clients import SECONDS, Sent, client_config, create_topic, produce, read_all
from tests.group_offsets import all_committed

START_SECONDS = 90.0
STOP_SECONDS = 30.0


class WorkerProcess:
    """A `firstseen worker` as users run it.

    `module` is another entry to the same command, `python` the interpreter it runs in.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        directory: Path,
        *,
        embedded: bool,
        module: str = "pipeline",
        python: str = sys.executable,
    ) -> None:
        (self.port,) = free_ports(1)
        self.was_stopped = False
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "worker.log"
        command = [
            python,
            "-m",
            module,
            "worker",
            *(["--embedded"] if embedded else []),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env={
                    **os.environ,
                    "FIRSTSEEN_STATE__DIRECTORY": str(directory / "state"),
                    **env,
                    "FIRSTSEEN_WEB__PORT": str(self.port),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a page; status 0 while nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's series that carry these labels."""
        return total(self.samples(), name, **labels)

    def samples(self) -> list[Sample]:
        """Return every series of the page of metrics; none while nothing listens."""
        page = self.get("/metrics")[1]
        return [
            sample for family in text_string_to_metric_families(page) for sample in family.samples
        ]

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the worker ended with {self.process.returncode}\n{self.tail()}")
        return self.get("/readyz")[0] == 200

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        if not wait_until(self.ready, seconds=seconds):
            raise TimeoutError(f"not ready: {self.get('/readyz')}\n{self.tail()}")

    def stop(self) -> int:
        """Stop it as an orchestrator does; return its exit code."""
        self.was_stopped = True
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        self.was_stopped = True
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def error_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what a command said of its error: plain lines, and the log line of a worker."""
    return [
        line
        for line in done.stderr.splitlines()
        if not line.startswith("{") or json.loads(line).get("event.action") == "worker_not_started"
    ]


@dataclass
class Deployment:
    """Topics under a prefix of their own, and workers that read and write them.

    `python` is the interpreter of the workers and of the commands.
    """

    broker: Broker
    prefix: str
    directory: Path
    input_partitions: int = 6
    input_configs: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    workers: list[WorkerProcess] = field(default_factory=list)
    python: str = sys.executable

    def __post_init__(self) -> None:
        self.input = f"{self.prefix}-events"

    @property
    def env(self) -> dict[str, str]:
        """The settings of this deployment as environment variables."""
        names = ("observations", "new_terms", "alerts", "overflow", "dead_letters")
        env = {
            "FIRSTSEEN_KAFKA__BOOTSTRAP_SERVERS": self.broker.bootstrap,
            "FIRSTSEEN_KAFKA__GROUP_ID": self.prefix,
            "FIRSTSEEN_TOPICS__INPUTS": self.input,
            "FIRSTSEEN_TOPICS__REPLICATION": "1",
            "FIRSTSEEN_STREAM__COMMIT_INTERVAL": "250ms",
            "FIRSTSEEN_KAFKA__SESSION_TIMEOUT": "10s",
            "FIRSTSEEN_KAFKA__HEARTBEAT_INTERVAL": "1s",
            "FIRSTSEEN_KAFKA__REQUEST_TIMEOUT": "30s",
            "FIRSTSEEN_LOG__FORMAT": "json",
        }
        env |= {f"FIRSTSEEN_TOPICS__{n.upper()}": f"{self.prefix}-{n}" for n in names}
        if not self.broker.is_apache:
            env["FIRSTSEEN_KAFKA__ENABLE_IDEMPOTENCE"] = "false"
            # It lets a member join after half of its session timeout.
            env["FIRSTSEEN_KAFKA__SESSION_TIMEOUT"] = "3s"
            env["FIRSTSEEN_KAFKA__HEARTBEAT_INTERVAL"] = "500ms"
        return env | self.settings

    def topic(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def create_input(self) -> None:
        create_topic(
            self.broker.bootstrap,
            self.input,
            partitions=self.input_partitions,
            configs={"max.message.bytes": str(8 << 20), **self.input_configs},
        )

    def create_topics(self) -> None:
        """Create the input, and the others as `firstseen topics apply` does, but in this process."""
        self.create_input()
        settings = Settings.load(environ={**os.environ, **self.env})
        admin = admin_client(settings)
        specs = load_topic_specs(None, settings)
        # Whatever is wrong with them, a worker refuses to start, and says so.
        cluster = describe_cluster(admin, settings, [spec.name for spec in specs])
        apply(plan(specs, cluster.topics), admin)

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `firstseen` command with this deployment's settings."""
        done = subprocess.run(
            [self.python, "-m", "pipeline", *arguments],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"firstseen {' '.join(arguments)}: {done.returncode}\n{done.stderr}")
        return done

    def start_worker(
        self, name: str = "a", *, module: str = "pipeline", **settings: str
    ) -> WorkerProcess:
        """Start a worker; one of the same name finds the same state folder."""
        worker = WorkerProcess(
            {**self.env, **settings},
            self.directory / name,
            embedded=not self.broker.is_apache,
            module=module,
            python=self.python,
        )
        self.workers.append(worker)
        return worker

    def stop_workers(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()

    def produce(self, values: Iterable[bytes | Sent]) -> None:
        """Produce events without keys, as Elastic Agent does: over all partitions."""
        produce(self.broker.bootstrap, self.input, values)

    def read(self, name: str) -> list[Message]:
        return read_all(self.broker.bootstrap, self.topic(name))

    def alerts(self) -> list[dict[str, Any]]:
        return [json.loads(message.value()) for message in self.read("alerts")]

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric over the workers that run."""
        return sum(worker.metric(name, **labels) for worker in self._running())

    def rows_in_changelog(self) -> int:
        """How many keys of the first seen changelog have a row and no tombstone after it."""
        latest = {
            message.key(): message.value()
            for message in self.read("first-seen-changelog")
            if len(message.key()) == KEY_BYTES
        }
        return sum(value is not None for value in latest.values())

    def wait_drained(self, seconds: float = 120.0) -> None:
        """Wait until every worker that runs has read, handled and committed all there is."""
        sources = self._source_partitions()
        if self.broker.is_apache and not wait_until(Unhurried(self._committed), seconds=seconds):
            raise self._not_drained()
        since = time.time()

        def drained() -> bool:
            return self._drained(sources, since)

        # The embedded broker tells no end that can be relied on, and the lags are a second old.
        condition = drained if self.broker.is_apache else Steadily(drained)
        if not wait_until(Unhurried(condition), seconds=seconds):
            raise self._not_drained()

    def _not_drained(self) -> TimeoutError:
        pages = [worker.get("/metrics")[1] for worker in self._running()]
        told = _lag_lines(pages) + [worker.tail() for worker in self._running()]
        return TimeoutError("\n".join(["not drained", *told]))

    def _committed(self) -> bool:
        return all(worker.ready() for worker in self._running()) and all_committed(self)

    def _drained(self, sources: set[tuple[str, int]], since: float) -> bool:
        """Whether every partition has a lag that was measured since, and it is none."""
        workers = self._running()
        if not all(worker.ready() for worker in workers):
            return False
        for worker in workers:
            # One page: the lags are measured in one step with the heartbeat.
            samples = worker.samples()
            if total(samples, "firstseen_loop_heartbeat_timestamp_seconds") <= since:
                return False
            if total(samples, "firstseen_outbox_records"):
                return False
            lags = [each for each in samples if each.name == "firstseen_consumer_lag_records"]
            if any(lag.value for lag in lags):
                return False
            # A partition of which no fetch has told the end yet is not among them.
            sources = sources - {
                (lag.labels["topic"], int(lag.labels["partition"])) for lag in lags
            }
        return not sources

    def _source_partitions(self) -> set[tuple[str, int]]:
        """Return the partitions that workers read, apart from changelogs."""
        admin = AdminClient(client_config(self.broker.bootstrap))
        topics = [
            *self.env["FIRSTSEEN_TOPICS__INPUTS"].split(","),
            self.env["FIRSTSEEN_TOPICS__OBSERVATIONS"],
            self.env["FIRSTSEEN_TOPICS__NEW_TERMS"],
        ]
        return {
            (topic, number)
            for topic in topics
            for number in admin.list_topics(topic, timeout=SECONDS).topics[topic].partitions
        }

    def _running(self) -> list[WorkerProcess]:
        """Return the workers that should run; `ready` and `metric` of a dead one tell."""
        return [worker for worker in self.workers if not worker.was_stopped]


class Steadily:
    """True when a condition has held for some seconds: workers sample their lag once a second."""

    def __init__(self, condition: Callable[[], bool], seconds: float = 2.5) -> None:
        self._condition = condition
        self._seconds = seconds
        self._since: float | None = None

    def __call__(self) -> bool:
        if not self._condition():
            self._since = None
            return False
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        return now - self._since >= self._seconds


class Unhurried:
    """A condition that is asked less often if it takes long: workers and brokers share the machine.

    It is asked again after twice as long as it took, and within a quarter of a second.
    """

    def __init__(self, condition: Callable[[], bool]) -> None:
        self._condition = condition
        self._pause = 0.0

    def __call__(self) -> bool:
        time.sleep(self._pause)
        asked = time.monotonic()
        holds = self._condition()
        self._pause = min(2 * (time.monotonic() - asked), 0.25)
        return holds


def wait_for(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Fail the test where a condition does not come to hold."""
    assert wait_until(Unhurried(condition), seconds=seconds), (
        f"it did not hold within {seconds:g} seconds"
    )


def total(samples: Iterable[Sample], name: str, **labels: str) -> float:
    """Return the sum of a metric's series that carry these labels."""
    return sum(
        sample.value
        for sample in samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def _lag_lines(pages: list[str]) -> list[str]:
    return [
        line
        for page in pages
        for line in page.splitlines()
        if line.startswith(("firstseen_consumer_lag", "firstseen_outbox"))
    ]


NewDeployment = Callable[..., Deployment]
