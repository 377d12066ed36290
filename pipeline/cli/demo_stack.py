"""What a demo runs on: a broker in memory, topics, one worker. Nothing of it outlives the demo."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.cli.worker_page import WorkerPage
from pipeline.config import Settings
from pipeline.config.sources import ENV_PREFIX, env_name
from pipeline.embedded.broker import EmbeddedBroker
from pipeline.embedded.process import ServerProcess, free_ports
from pipeline.errors import DeliveryError
from pipeline.kafka.clients import admin_client
from pipeline.kafka.topics import apply, describe_cluster, load_topic_specs, plan

_PARTITIONS = 2
_LOG_LINES = 5


@dataclass(frozen=True, slots=True)
class DemoStack:
    """A running stack.

    Attributes:
        settings: the settings of its worker.
        page: the metrics of its worker.
    """

    settings: Settings
    page: WorkerPage
    _worker: ServerProcess
    _log: Path

    def check(self) -> None:
        """Raise DeliveryError with the last lines of the worker's log if the worker has ended."""
        if not self._worker.running:
            lines = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise DeliveryError("\n".join(["the worker has ended; the last it said:", *lines]))


@contextmanager
def demo_stack(rule_paths: Sequence[Path]) -> Iterator[DemoStack]:
    """Start everything; at the end, stop it and remove its files.

    The settings in the user's environment are ignored: a demo must not end up in a real cluster.

    Args:
        rule_paths: rule files and folders; none for the built-in rules.

    Raises:
        BrokerError: the embedded broker does not start.
    """
    with tempfile.TemporaryDirectory(prefix="firstseen-demo-") as scratch:
        directory = Path(scratch)
        with EmbeddedBroker(log=directory / "broker.log") as broker:
            values = {
                "kafka.bootstrap_servers": broker.bootstrap,
                # The embedded broker does not support aiokafka's request for a producer id.
                "kafka.enable_idempotence": "false",
                # With the defaults, its group takes half a minute to form.
                "kafka.session_timeout": "6s",
                "kafka.heartbeat_interval": "1s",
                "kafka.rebalance_timeout": "6s",
                "topics.replication": "1",
                "rules.paths": json.dumps([str(path.resolve()) for path in rule_paths]),
                "state.directory": str(directory / "state"),
                "web.port": str(free_ports(1)[0]),
                "log.format": "console",
            }
            settings = Settings.load(overrides=values, environ={})
            _create_topics(settings)
            log = directory / "worker.log"
            worker = _start_worker(values, log)
            try:
                yield DemoStack(settings, WorkerPage(settings.web.port), worker, log)
            finally:
                # Killed, because its state and its topics end with it.
                worker.kill()


def _create_topics(settings: Settings) -> None:
    specs = [
        replace(spec, external=False, partitions=_PARTITIONS, replication=1)
        for spec in load_topic_specs(None, settings)
    ]
    admin = admin_client(settings)
    cluster = describe_cluster(admin, settings, [spec.name for spec in specs])
    apply(plan(specs, cluster.topics), admin)


def _start_worker(values: Mapping[str, str], log: Path) -> ServerProcess:
    foreign = {k: v for k, v in os.environ.items() if not k.upper().startswith(ENV_PREFIX)}
    env = {**foreign, **{env_name(key): value for key, value in values.items()}}
    # -P: a folder named `pipeline` in the user's working directory is not ours.
    command = [sys.executable, "-P", "-m", "pipeline", "worker", "--embedded"]
    return ServerProcess(command, log=log, env=env)
