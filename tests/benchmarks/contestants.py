"""Who is measured: the peers as programs that speak the protocol, and how to get them."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from tests.benchmarks.environments import FOLDER, ROOT, environment, install
from tests.benchmarks.ground import Ground, Topic
from tests.benchmarks.machine import placed_on
from tests.benchmarks.measurement import Measurement, UnavailableError
from tests.benchmarks.protocol import Task
from tests.brokers import java_command

PEERS = FOLDER / "peers"
STREAMS = PEERS / "kafka-streams"
MEASUREMENT_SECONDS = 300.0


@dataclass(frozen=True)
class Peer:
    """A contestant that is a program of its own.

    Attributes:
        name: as in the results.
        title: as in the picture.
        pace: how many events it is given: "slow", "medium" or "fast".
        prepare: installs what it needs and returns its command.
        counts: whether it counts "matches" of the rule or "candidates" by their bytes.
    """

    name: str
    title: str
    pace: str
    prepare: Callable[[], list[str]]
    counts: str = "matches"

    def measure(self, ground: Ground, topic: Topic, **options: str) -> Measurement:
        """Run it once over a filled topic.

        Raises:
            UnavailableError: it cannot run here, or did not finish.
        """
        command = self.prepare()
        group = ground.new_group(self.name)
        with ground.folder() as directory:
            task = Task(
                bootstrap=ground.bootstrap,
                topic=topic.name,
                ends=topic.ends,
                group=group,
                directory=str(directory),
                alerts=ground.new_topic(f"{group}-alerts"),
                options={"logs": str(ground.logs), **options},
            )
            reports = self._run(ground, [*command, task.encode()])
        start, done = reports["start"], reports["done"]
        known = {"event", "cpu", "wall", "consumed", "found"}
        return Measurement(
            contestant=self.name,
            events=done["consumed"] - start["consumed"],
            cpu_seconds=done["cpu"] - start["cpu"],
            wall_seconds=done["wall"] - start["wall"],
            consumed=done["consumed"],
            found=done["found"],
            expected=topic.matches if self.counts == "matches" else topic.candidates,
            expected_consumed=task.count,
            more={key: value for key, value in done.items() if key not in known},
        )

    def _run(self, ground: Ground, command: Sequence[str]) -> dict[str, dict[str, Any]]:
        seconds = ground.seconds(MEASUREMENT_SECONDS)
        with ground.folder() as directory, (directory / "stderr").open("w+") as errors:
            with placed_on(ground.placement.consumer):
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
            assert process.stdout is not None
            try:
                reports = _read_reports(process.stdout, time.monotonic() + seconds)
            finally:
                ended = process.poll() is not None
                process.kill()
                process.wait()
                process.stdout.close()
            if "done" not in reports:
                errors.seek(0)
                how = "ended" if ended else f"was not done within {seconds:.0f} s"
                raise UnavailableError(f"{self.name} {how}: {errors.read()[-1500:].strip()}")
        return reports


def _read_reports(stream: IO[bytes], deadline: float) -> dict[str, dict[str, Any]]:
    """Read the two reports, or what comes until the deadline or the end of the program."""
    reports: dict[str, dict[str, Any]] = {}
    waiting = selectors.DefaultSelector()
    waiting.register(stream, selectors.EVENT_READ)
    pending = b""
    while "done" not in reports and (left := deadline - time.monotonic()) > 0:
        if not waiting.select(left):
            continue
        data = os.read(stream.fileno(), 65_536)
        if not data:
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            if line.startswith(b"{"):
                report = json.loads(line)
                reports[report["event"]] = report
    waiting.close()
    return reports


def _module(name: str) -> Callable[[], list[str]]:
    """Return the command of a peer that runs in the project's environment."""
    return lambda: [sys.executable, "-m", f"tests.benchmarks.peers.{name}"]


def _isolated(name: str, module: str) -> Callable[[], list[str]]:
    """Return the command of a peer with an environment of its own, which is made when needed.

    It has this interpreter, so that all are measured with the same one.
    """

    def prepare() -> list[str]:
        requirements = PEERS / f"requirements-{name}.txt"
        folder = FOLDER / f".venv-{name}"

        def make() -> None:
            uv = shutil.which("uv")
            if uv is None:
                raise UnavailableError(f"uv is needed to make the environment of {name}")
            install([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
            python = str(folder / "bin" / "python")
            install([uv, "pip", "install", "--quiet", "--python", python, "-r", str(requirements)])

        python = environment(folder, f"# {sys.version}\n{requirements.read_text()}", make)
        return [python, "-m", f"tests.benchmarks.peers.{module}"]

    return prepare


def _kafka_streams() -> list[str]:
    target = STREAMS / "target"
    sources = [STREAMS / "pom.xml", *STREAMS.rglob("*.java")]
    jar = target / "kafka-streams-peer-1.jar"
    if not jar.exists() or any(source.stat().st_mtime > jar.stat().st_mtime for source in sources):
        maven = shutil.which("mvn")
        if maven is None or shutil.which("javac") is None:
            raise UnavailableError("mvn and a JDK are needed to build the Kafka Streams program")
        pom = str(STREAMS / "pom.xml")
        install([maven, "-q", "-B", "-f", pom, "package", "dependency:copy-dependencies"])
    return [
        *(java_command(), "-Xmx1g", "-Xms1g", "-cp"),
        *(f"{target / 'classes'}:{target / 'dependency'}/*", "bench.Main"),
    ]


LIBRDKAFKA_LOOP = Peer(
    "librdkafka_loop",
    "confluent-kafka loop, needle in value",
    "fast",
    _module("librdkafka_loop"),
    counts="candidates",
)
AIOKAFKA_LOOP = Peer(
    "aiokafka_loop",
    "aiokafka loop, needle in value",
    "fast",
    _module("aiokafka_loop"),
    counts="candidates",
)
DECOMPRESSION_LIMIT = Peer(
    "decompression_limit",
    "decompression and nothing else",
    "fast",
    _module("decompression_limit"),
    counts="candidates",
)
STOCK_FAUST = Peer("stock_faust", "Faust, JSON in an agent", "slow", _module("stock_faust"))
QUIX_STREAMS = Peer("quix_streams", "Quix Streams", "medium", _isolated("quix", "quix"))
KAFKA_STREAMS = Peer("kafka_streams", "Kafka Streams (Java)", "fast", _kafka_streams)
BYTEWAX = Peer("bytewax", "Bytewax", "medium", _isolated("bytewax", "bytewax_flow"))

PEERS_IN_ORDER = (
    DECOMPRESSION_LIMIT,
    LIBRDKAFKA_LOOP,
    AIOKAFKA_LOOP,
    KAFKA_STREAMS,
    QUIX_STREAMS,
    BYTEWAX,
    STOCK_FAUST,
)
