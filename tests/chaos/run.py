"""One run: events flow, faults happen, then everything has to come out right."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException, Message

from pipeline.embedded.process import wait_until
from pipeline.engine.wire import NewTerm, decode_candidate
from pipeline.errors import BrokerError
from tests.brokers import Broker
from tests.chaos.cluster import Cluster
from tests.chaos.corpus import Corpus, make_corpus, replayed_terms, term_of, write_rules
from tests.chaos.faults import Ground, inject
from tests.chaos.fleet import Fleet, Slot
from tests.chaos.flow import Flow
from tests.chaos.sampling import Sampler
from tests.chaos.schedule import Fault, Kind, make_schedule
from tests.chaos.verdict import Place, Raised, Told, judge, recovery_seconds
from tests.clients import SECONDS
from tests.deployment import Deployment
from tests.group_offsets import all_committed
from tests.small_topics import small_topics

WORKERS = 3
SESSION_SECONDS = 6.0
START_SECONDS = 90.0
DRAIN_SECONDS = 150.0
PARTITIONS = 4

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a run consists of.

    Attributes:
        seed: decides the events and the faults.
        events: how many events, the last repeat of every term included.
        terms: how many of them bring a new term.
        faults: how many faults.
        seconds: within this time they begin, and the events are sent.
        only: kinds of faults; empty for all.
    """

    seed: int
    events: int
    terms: int
    faults: int
    seconds: float
    only: frozenset[Kind] = frozenset()


def run(cluster: Cluster, plan: Plan, directory: Path, say: Say) -> dict[str, Any]:
    """Do one run.

    Returns:
        What the report is made of, see `tests.chaos.report`.

    Raises:
        RuntimeError: the run itself is at fault: its oracles differ, its events did not arrive.
    """
    rules = directory / "rules"
    directory.mkdir(parents=True)
    write_rules(rules)
    corpus = make_corpus(plan.events, plan.terms, seed=plan.seed)
    _check_oracle(corpus, replayed_terms(corpus, rules, directory / "events.ndjson"))
    (directory / "events.ndjson").unlink()
    with _deployment(cluster, plan, directory, rules) as deployment:
        return _Run(cluster, plan, corpus, deployment, say).go()


def _check_oracle(corpus: Corpus, replayed: list[Any]) -> None:
    if sorted(replayed) != sorted(corpus.terms):
        raise RuntimeError("a replay of the events finds other new terms than were put in")


@contextmanager
def _deployment(cluster: Cluster, plan: Plan, directory: Path, rules: Path) -> Iterator[Deployment]:
    settings = {
        **small_topics(directory / "topics", PARTITIONS),
        "FIRSTSEEN_TOPICS__REPLICATION": "3",
        "FIRSTSEEN_RULES__PATHS": str(rules),
        "FIRSTSEEN_KAFKA__SESSION_TIMEOUT": f"{SESSION_SECONDS:.0f}s",
        "FIRSTSEEN_KAFKA__HEARTBEAT_INTERVAL": "1s",
        "FIRSTSEEN_KAFKA__REBALANCE_TIMEOUT": "15s",
        "FIRSTSEEN_KAFKA__REQUEST_TIMEOUT": "15s",
        "FIRSTSEEN_KAFKA__DELIVERY_TIMEOUT": "20s",
        # Small buffers, so that a small state has files of every kind, and a small disk is enough.
        "FIRSTSEEN_STATE__WRITE_BUFFER_BYTES": str(1 << 16),
    }
    prefix = f"chaos-{plan.seed}-{time.time_ns() % 1_000_000}"
    broker = Broker("kafka", cluster.bootstrap)
    deployment = Deployment(broker, prefix, directory, settings=settings)
    deployment.create_topics()
    try:
        yield deployment
    finally:
        admin = cluster.admin
        ours = [t for t in admin.list_topics(timeout=SECONDS).topics if t.startswith(prefix)]
        for deleted in admin.delete_topics(ours).values():
            deleted.result(SECONDS)


class _Run:
    def __init__(
        self, cluster: Cluster, plan: Plan, corpus: Corpus, deployment: Deployment, say: Say
    ) -> None:
        self._plan = plan
        self._corpus = corpus
        self._deployment = deployment
        self._say = say
        slots = [
            Slot(name, ways, deployment.directory / name) for name, ways in cluster.ways.items()
        ]
        self._fleet = Fleet(deployment, slots)
        self._ground = Ground(cluster, self._fleet, SESSION_SECONDS, WORKERS)
        self._cluster = cluster
        self._done: list[tuple[Fault, float, float]] = []
        self._broken: list[str] = []
        self._made = time.monotonic()
        self._begin = 0.0

    def go(self) -> dict[str, Any]:
        sampler = self._sampler()
        flow = Flow(self._cluster.bootstrap, self._deployment.input)
        try:
            self._fleet.start(WORKERS)
            self._wait_started()
            sampler.start()
            self._begin = time.monotonic()
            sending = flow.start(self._corpus.body, self._plan.seconds)
            self._inject_all()
            sending.join()
            drained_after = self._settle(flow)
        finally:
            self._cluster.heal()
            self._fleet.close()
            if self._begin:
                sampler.stop()
        return self._result(flow, sampler, drained_after)

    def _sampler(self) -> Sampler:
        deployment = self._deployment

        def partitions(*names: str) -> list[Place]:
            return [(deployment.topic(name), n) for name in names for n in range(PARTITIONS)]

        events = [(deployment.input, n) for n in range(deployment.input_partitions)]
        read = [*events, *partitions("observations", "new_terms")]
        return Sampler(deployment, read, partitions("alerts", "overflow"))

    def _wait_started(self) -> None:
        """Wait until the work is shared out: a fault should find somebody at work."""
        partitions = self._deployment.input_partitions + 2 * PARTITIONS
        if not wait_until(
            lambda: self._fleet.all_ready() and self._fleet.partitions() == partitions,
            seconds=START_SECONDS,
        ):
            raise RuntimeError("the workers did not start")
        shares = {slot.name: slot.partitions() for slot in self._fleet.wanted()}
        self._say(f"  workers at work after {time.monotonic() - self._made:.1f} s: {shares}")

    # -- faults

    def _inject_all(self) -> None:
        plan = self._plan
        threads = []
        for fault in make_schedule(plan.faults, plan.seconds, seed=plan.seed, only=plan.only):
            time.sleep(max(0.0, self._begin + fault.at - time.monotonic()))
            thread = threading.Thread(target=self._inject, args=(fault,), name=fault.kind)
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()

    def _inject(self, fault: Fault) -> None:
        begin = time.time()
        try:
            inject(self._ground, fault)
        except Exception:  # noqa: BLE001 - the harness is broken: told with the results
            self._broken.append(f"{fault.kind}: {traceback.format_exc()}")
        self._done.append((fault, begin, time.time()))
        shares = "".join(f" {s.name}:{s.partitions()}" for s in self._fleet.running())
        self._say(
            f"  {time.monotonic() - self._begin:6.1f} s  {fault.kind} "
            f"(lasted {time.time() - begin:.1f} s); partitions{shares}"
        )

    def _settle(self, flow: Flow) -> float | None:
        """Send the last repeats, and wait until everything is handled; None if it never is."""
        begin = time.monotonic()
        flow.flush()
        flow.start(self._corpus.tail, 1.0).join()
        flow.flush()
        settled = wait_until(
            lambda: self._fleet.all_ready() and self._all_committed(),
            seconds=DRAIN_SECONDS,
        )
        return time.monotonic() - begin if settled else None

    def _all_committed(self) -> bool:
        try:
            return all_committed(self._deployment, self._cluster.admin)
        except (BrokerError, KafkaException):
            return False

    # -- what came of it

    def _result(self, flow: Flow, sampler: Sampler, drained_after: float | None) -> dict[str, Any]:
        deployment = self._deployment
        told = [
            _told(message) for name in ("alerts", "overflow") for message in deployment.read(name)
        ]
        verdict = judge(
            self._corpus.terms, told, _raised(deployment.read("new_terms")), sampler.samples
        )
        faults = Counter(str(fault.kind) for fault, _, _ in self._done)
        exits = self._fleet.exits
        return {
            "seed": self._plan.seed,
            "events": self._plan.events,
            "new_terms": self._plan.terms,
            "seconds": round(time.monotonic() - self._begin, 1),
            "drained_after": drained_after,
            "faults": dict(faults),
            "gaps": dict(self._ground.gaps),
            "worker_kills": self._fleet.kills,
            "worker_exits": {str(code): number for code, number in sorted(exits.items())},
            "recoveries": [
                round(seconds, 2)
                for seconds in recovery_seconds((end for _, _, end in self._done), flow.sent, told)
            ],
            "samples": len(sampler.samples),
            "in_overflow": sum(record.place[0] == deployment.topic("overflow") for record in told),
            "dead_letters": len(deployment.read("dead_letters")),
            "disk": "tmpfs" if self._fleet.slots[0].disk.mounted else "RLIMIT_FSIZE",
            "broken": self._broken,
            **asdict(verdict),
        }


def _told(message: Message) -> Told:
    value = message.value() or b""
    alert = json.loads(value)
    summary = not alert["detection"].get("new_terms")
    _, at_ms = message.timestamp()
    return Told(
        alert_id=(message.key() or b"").decode(),
        term=None if summary else term_of(alert),
        value=value,
        place=(str(message.topic()), int(message.partition() or 0)),
        offset=int(message.offset() or 0),
        at=at_ms / 1000,
    )


def _raised(messages: list[Message]) -> list[Raised]:
    raised = []
    for message in messages:
        candidate = decode_candidate(message.value() or b"")
        if isinstance(candidate, NewTerm):
            place = (str(message.topic()), int(message.partition() or 0))
            raised.append(Raised(candidate.alert_id, place, int(message.offset() or 0)))
    return raised
