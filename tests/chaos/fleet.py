"""The workers of a run, and what stands in for their orchestrator: who ends is started again."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.chaos.clock import ClockFile
from tests.chaos.cluster import Ways
from tests.chaos.disk import Disk
from tests.deployment import Deployment, WorkerProcess

MODULE = "tests.chaos.worker"
_POLL_SECONDS = 0.05
_BACK_OFF_SECONDS = 1.0
_STOP_SECONDS = 60.0
_NEVER = float("inf")


class Slot:
    """One worker of the deployment, life after life: its name, its disk, its clock, its network."""

    def __init__(self, name: str, ways: Ways, directory: Path) -> None:
        self.name = name
        self.ways = ways
        directory.mkdir(parents=True)
        self.clock = ClockFile(directory / "clock")
        self.disk = Disk(directory / "disk")
        self.held = threading.Lock()
        self.wanted = False
        self.start_at = 0.0
        self.worker: WorkerProcess | None = None
        self.next_life: Mapping[str, str] = {}

    @property
    def state(self) -> Path:
        return self.disk.folder / "state"

    @property
    def running(self) -> bool:
        return self.worker is not None and self.worker.process.poll() is None

    def ready(self) -> bool:
        worker = self.worker
        return worker is not None and self.running and worker.get("/readyz")[0] == 200

    def partitions(self) -> int:
        """Return how many partitions its worker reads."""
        worker = self.worker
        return 0 if worker is None else int(worker.metric("firstseen_assigned_partitions"))

    def process(self) -> psutil.Process | None:
        """Return the process of the present life; None if there is none."""
        worker = self.worker
        if worker is None or not self.running:
            return None
        try:
            return psutil.Process(worker.process.pid)
        except psutil.NoSuchProcess:
            return None


class Fleet:
    """Keeps as many workers running as are wanted.

    Attributes:
        kills: processes that died by SIGKILL, from whatever hand of the tests.
        exits: exit codes of the lives that ended otherwise.
    """

    def __init__(self, deployment: Deployment, slots: Sequence[Slot]) -> None:
        self.deployment = deployment
        self.slots = list(slots)
        self.kills = 0
        self.exits: Counter[int] = Counter()
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="orchestrator")

    def start(self, workers: int) -> None:
        self.scale(workers)
        self._thread.start()

    def close(self) -> None:
        """End the orchestrator, then every worker."""
        self._ending.set()
        self._thread.join()
        for slot in self.slots:
            if slot.worker is not None:
                slot.worker.kill()
            slot.disk.close()

    def scale(self, workers: int) -> None:
        """Want so many workers; those that are too many are told to stop."""
        with self._lock:
            for number, slot in enumerate(self.slots):
                slot.wanted = number < workers
                process = slot.process()
                if not slot.wanted and process is not None:
                    process.terminate()

    def wanted(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.wanted]

    def running(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.running]

    def partitions(self) -> int:
        """Return how many partitions are read by all together."""
        return sum(slot.partitions() for slot in self.slots)

    def all_ready(self) -> bool:
        return all(slot.ready() for slot in self.wanted()) and all(
            slot.wanted for slot in self.running()
        )

    def kill(
        self,
        slot: Slot,
        *,
        pause: float,
        before_restart: Callable[[], None] | None = None,
        next_life: Mapping[str, str] | None = None,
    ) -> None:
        """Kill the worker of a slot (SIGKILL); it is started again after a pause, in seconds."""
        with self.held(slot, pause=pause):
            worker = slot.worker
            if worker is not None:
                worker.kill()
            slot.next_life = next_life or {}
            if before_restart is not None:
                before_restart()

    @contextmanager
    def held(self, slot: Slot, *, pause: float = 0.0) -> Iterator[None]:
        """Within, the slot's worker is not started again should it end; one fault at a time."""
        with slot.held:
            with self._lock:
                slot.start_at = _NEVER
            try:
                yield
            finally:
                with self._lock:
                    slot.start_at = time.monotonic() + pause

    def stop(self, slot: Slot) -> None:
        """Stop the worker of a slot as an orchestrator does, and wait for its end."""
        process = slot.process()
        if process is not None:
            with suppress(psutil.NoSuchProcess, subprocess.TimeoutExpired):
                process.terminate()
                process.wait(_STOP_SECONDS)

    def _supervise(self) -> None:
        while not self._ending.wait(_POLL_SECONDS):
            with self._lock:
                for slot in self.slots:
                    self._note_end(slot)
                    if slot.wanted and slot.worker is None and time.monotonic() >= slot.start_at:
                        self._start(slot)

    def _note_end(self, slot: Slot) -> None:
        if slot.worker is None or slot.running:
            return
        code = slot.worker.process.returncode
        slot.worker = None
        if code == -9:
            self.kills += 1
            return
        self.exits[code] += 1
        if code != 0:
            slot.start_at = max(slot.start_at, time.monotonic() + _BACK_OFF_SECONDS)

    def _start(self, slot: Slot) -> None:
        life, slot.next_life = slot.next_life, {}
        slot.worker = self.deployment.start_worker(
            slot.name,
            module=MODULE,
            **{
                "FIRSTSEEN_KAFKA__BOOTSTRAP_SERVERS": slot.ways.bootstrap,
                "FIRSTSEEN_STATE__DIRECTORY": str(slot.state),
                "CHAOS_CLOCK": str(slot.clock.path),
                **life,
            },
        )
