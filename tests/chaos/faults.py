"""The faults one by one. Each begins, lasts as long as its seed says, and ends; then it returns."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from pipeline.embedded.process import wait_until
from tests.chaos.cluster import Cluster
from tests.chaos.corpus import RULES, rule_id
from tests.chaos.fleet import Fleet, Slot
from tests.chaos.schedule import Fault, Kind
from tests.failing_worker import KILLS

READY_SECONDS = 40.0
GAP_SECONDS = 20.0
BACKFILL_SECONDS = 120.0
ANSWER_SECONDS = 4.0
ADMIN_SECONDS = 60.0
MAX_WORKERS = 4

_SILENT: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@dataclass
class Ground:
    """What faults are done to.

    Attributes:
        session_seconds: after so long without a sign of life a worker is taken for dead.
        workers: how many run when nothing happens.
        gaps: workers that died in a gap, by its name.
        one_backfill_at_a_time: held by whoever lets a rule learn.
    """

    cluster: Cluster
    fleet: Fleet
    session_seconds: float
    workers: int
    gaps: Counter[str] = field(default_factory=Counter)
    one_backfill_at_a_time: threading.Lock = field(default_factory=threading.Lock)


Inject = Callable[[Ground, random.Random], None]


def inject(ground: Ground, fault: Fault) -> None:
    """Do a fault from its beginning to its end."""
    _INJECT[fault.kind](ground, random.Random(fault.seed))


def _any_slot(ground: Ground, rng: random.Random) -> Slot:
    """Return a slot whose worker is at work, mostly; else one that just starts, or should run."""
    fleet = ground.fleet
    working = [slot for slot in fleet.running() if slot.ready()] if rng.random() < 0.8 else []
    return rng.choice(working or fleet.running() or fleet.wanted())


def _pause(rng: random.Random) -> float:
    return rng.uniform(0.0, 2.0)


# -- deaths


def _kill(ground: Ground, rng: random.Random) -> None:
    ground.fleet.kill(_any_slot(ground, rng), pause=_pause(rng))


def _kill_all(ground: Ground, rng: random.Random) -> None:
    for slot in ground.fleet.running():
        ground.fleet.kill(slot, pause=_pause(rng))


def _kill_and_delete(ground: Ground, rng: random.Random) -> None:
    slot = _any_slot(ground, rng)
    ground.fleet.kill(slot, pause=_pause(rng), before_restart=lambda: _delete(slot.state))


def _delete(state: Path) -> None:
    shutil.rmtree(state, ignore_errors=True)


def _kill_and_damage(ground: Ground, rng: random.Random) -> None:
    slot = _any_slot(ground, rng)
    damage = rng.choice([_cut_manifests, _cut_files, _flip_bytes])
    ground.fleet.kill(slot, pause=_pause(rng), before_restart=lambda: damage(slot.state, rng))


def _cut_manifests(state: Path, _: random.Random) -> None:
    """Cut the list of files of every database short, as a torn volume does."""
    for manifest in state.rglob("MANIFEST-*"):
        _cut(manifest, 20)


def _cut_files(state: Path, rng: random.Random) -> None:
    """Cut some files of the databases short."""
    for file in _data_files(state, rng):
        _cut(file, rng.randrange(file.stat().st_size))


def _flip_bytes(state: Path, rng: random.Random) -> None:
    """Change some bytes in some files of the databases."""
    for file in _data_files(state, rng):
        content = bytearray(file.read_bytes())
        for _ in range(8):
            content[rng.randrange(len(content))] ^= 0xFF
        file.write_bytes(content)


def _cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def _data_files(state: Path, rng: random.Random) -> list[Path]:
    files = [
        file
        for file in sorted(state.rglob("*"))
        if file.is_file() and file.suffix in (".sst", ".log") and file.stat().st_size > 0
    ]
    return rng.sample(files, min(len(files), 3))


def _die_in_a_gap(ground: Ground, rng: random.Random) -> None:
    """Let a new life die between two steps of a stage, where the failpoints of the tests are."""
    fleet, slot = ground.fleet, _any_slot(ground, rng)
    name, forgetful = rng.choice(sorted(KILLS)), rng.random() < 0.5
    armed = slot.clock.path.with_name(f"armed-{rng.randrange(1 << 32)}")
    life = {
        "TEST_FAILPOINT": name,
        "TEST_FAILPOINT_ARM": str(armed),
        "TEST_BUNDLE_RECORDS": "3",
    }
    fleet.kill(slot, pause=0.0, next_life=life)
    wait_until(lambda: slot.ready() or not slot.wanted, seconds=READY_SECONDS)
    with fleet.held(slot, pause=_pause(rng)):
        worker = slot.worker
        armed.touch()
        died = wait_until(lambda: not slot.running, seconds=GAP_SECONDS)
        if died and worker is not None and worker.process.returncode == -9:
            ground.gaps[name] += 1
        process = slot.process()
        if process is not None:  # nothing came its way: armed, it would commit nothing for ever
            process.kill()
        if forgetful:
            _delete(slot.state)


# -- workers that seem dead


def _freeze(ground: Ground, rng: random.Random) -> None:
    """Freeze a worker until others have its partitions, then let it go on as if nothing was."""
    process = _any_slot(ground, rng).process()
    if process is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process.suspend()
        time.sleep(ground.session_seconds + rng.uniform(1.0, 5.0))
        process.resume()


def _cut_network(ground: Ground, rng: random.Random) -> None:
    """Cut a worker off from all brokers or from one, in silence or with its connections broken."""
    proxies = list(_any_slot(ground, rng).ways.proxies.values())
    if rng.random() < 0.3:
        proxies = [rng.choice(proxies)]
    silent = rng.random() < 0.5
    for proxy in proxies:
        if silent:
            proxy.hold()
        else:
            proxy.refuse()
    time.sleep(rng.uniform(2.0, 2 * ground.session_seconds))
    for proxy in proxies:
        proxy.heal()


def _move_clock(ground: Ground, rng: random.Random) -> None:
    minute, hour = 60, 3600
    clock = _any_slot(ground, rng).clock
    clock.move(rng.choice([-26 * hour, -hour, -minute, minute, 50 * minute, 26 * hour]))
    time.sleep(rng.uniform(5.0, 15.0))
    clock.move(0)


def _fill_disk(ground: Ground, rng: random.Random) -> None:
    slot = _any_slot(ground, rng)
    slot.disk.fill(slot.process())
    if rng.random() < 0.5:
        ground.fleet.kill(slot, pause=0.0)  # a start on a full disk
    time.sleep(rng.uniform(4.0, 10.0))
    slot.disk.free(slot.process())


# -- brokers and topics


@contextmanager
def _without_a_node(ground: Ground, rng: random.Random) -> Iterator[None]:
    """Within, one broker is dead; afterwards it is back and has what it missed."""
    kafka = ground.cluster.kafka
    number = rng.choice(list(kafka.nodes))
    with ground.cluster.one_node_at_a_time:
        kafka.kill(number)
        try:
            yield
        finally:
            kafka.restart(number)
            ground.cluster.wait_back(number)


def _kill_broker(ground: Ground, rng: random.Random) -> None:
    with _without_a_node(ground, rng):
        time.sleep(rng.uniform(0.0, 8.0))


def _slow_broker(ground: Ground, rng: random.Random) -> None:
    number = rng.choice(list(ground.cluster.kafka.nodes))
    with ground.cluster.one_node_at_a_time:
        proxies = ground.cluster.to_broker(number)
        delay = rng.uniform(0.2, 1.5)
        for proxy in proxies:
            proxy.slow(delay)
        time.sleep(rng.uniform(5.0, 12.0))
        for proxy in proxies:
            proxy.slow(0.0)


def _refuse_alerts(ground: Ground, rng: random.Random) -> None:
    """Let the broker refuse alerts: for good, as too large; or for now, with too few replicas."""
    if rng.random() < 0.5:
        size = _read_alerts_setting(ground, "max.message.bytes")
        _set_alerts(ground, "max.message.bytes", "500")
        time.sleep(rng.uniform(3.0, 8.0))
        _set_alerts(ground, "max.message.bytes", size)
        return
    with _without_a_node(ground, rng):
        _set_alerts(ground, "min.insync.replicas", "3")
        time.sleep(rng.uniform(3.0, 8.0))
    _set_alerts(ground, "min.insync.replicas", "2")


def _read_alerts_setting(ground: Ground, name: str) -> str:
    configs = _answer(ground, AdminClient.describe_configs, _alerts(ground))
    return str(configs[name].value)


def _set_alerts(ground: Ground, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    _answer(ground, AdminClient.incremental_alter_configs, _alerts(ground, entry))


def _alerts(ground: Ground, *entries: ConfigEntry) -> ConfigResource:
    topic = ground.fleet.deployment.topic("alerts")
    return ConfigResource(ResourceType.TOPIC, topic, incremental_configs=list(entries))


def _answer(
    ground: Ground,
    ask: Callable[..., dict[ConfigResource, Future[Any]]],
    resource: ConfigResource,
) -> Any:
    """Return the brokers' answer about a resource, asking again as often as it takes.

    librdkafka asks the controller it last read of, which in KRaft is any broker. Is that one dead,
    it waits for it and does not look for another by itself.

    Raises:
        TimeoutError: no broker answers.
    """
    admin = ground.cluster.admin
    deadline = time.monotonic() + ADMIN_SECONDS
    while True:
        try:
            admin.list_topics(timeout=ANSWER_SECONDS)  # reads anew which brokers there are
            asked = ask(admin, [resource], request_timeout=ANSWER_SECONDS)
            return asked[resource].result(2 * ANSWER_SECONDS)
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {ADMIN_SECONDS:.0f} s") from error


# -- what operators do


def _restart_one_by_one(ground: Ground, _: random.Random) -> None:
    for slot in ground.fleet.wanted():
        ground.fleet.stop(slot)
        wait_until(lambda s=slot: s.ready() or not s.wanted, seconds=READY_SECONDS)  # type: ignore[misc]


def _scale(ground: Ground, rng: random.Random) -> None:
    for workers in (1, MAX_WORKERS, 1):
        ground.fleet.scale(workers)
        time.sleep(rng.uniform(3.0, 10.0))
    ground.fleet.scale(ground.workers)


def _learn_again(ground: Ground, rng: random.Random) -> None:
    """Let a rule that is alive learn from the log, die in the middle, and go on until it is done.

    It may put off what comes meanwhile; it must not lose it. Two people who begin the same anew at
    the same time are not among what it is made for.
    """
    rule = rule_id(rng.randrange(RULES))
    command = [sys.executable, "-m", "pipeline", "history", "backfill", "--rule", rule]
    env = {**os.environ, **ground.fleet.deployment.env}
    with ground.one_backfill_at_a_time:
        with subprocess.Popen([*command, "--again"], env=env, **_SILENT) as begun:
            with contextlib.suppress(subprocess.TimeoutExpired):
                begun.wait(rng.uniform(1.0, 20.0))
            begun.kill()
        if not wait_until(
            lambda: subprocess.run(command, env=env, check=False, **_SILENT).returncode == 0,
            seconds=BACKFILL_SECONDS,
        ):
            raise RuntimeError(f"the backfill of {rule} does not come to its end")


_INJECT: dict[Kind, Inject] = {
    Kind.KILL: _kill,
    Kind.KILL_ALL: _kill_all,
    Kind.GAP: _die_in_a_gap,
    Kind.STATE_DELETED: _kill_and_delete,
    Kind.STATE_DAMAGED: _kill_and_damage,
    Kind.BROKER_KILLED: _kill_broker,
    Kind.BROKER_SLOW: _slow_broker,
    Kind.ZOMBIE: _freeze,
    Kind.NETWORK_CUT: _cut_network,
    Kind.DISK_FULL: _fill_disk,
    Kind.CLOCK: _move_clock,
    Kind.ALERTS_REFUSED: _refuse_alerts,
    Kind.ROLLING_RESTART: _restart_one_by_one,
    Kind.SCALE: _scale,
    Kind.BACKFILL: _learn_again,
}
