"""The state: durable first-seen decisions per CPU-second, what a term costs, how fast it is rebuilt.

Every event matches. First `distinct` events bring a new term each; then come the decisions that
are measured, nine of ten about a term that is known. A decision counts when it is durable: state
in its changelog, alert acknowledged, offsets committed.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace

import psutil

from tests.benchmarks.cases import Extent
from tests.benchmarks.command import Say
from tests.benchmarks.contestants import KAFKA_STREAMS, QUIX_STREAMS, Peer
from tests.benchmarks.firstseen import FIRSTSEEN, PATIENT, Watch, folder_bytes, wait_ready
from tests.benchmarks.generator import Corpus, distinct_terms
from tests.benchmarks.ground import Ground, Topic
from tests.benchmarks.measurement import Measurement, UnavailableError
from tests.benchmarks.statistics import Spread, significant
from tests.deployment import Deployment

_READY_SECONDS = 600.0
_ENOUGH_TERMS = 100_000  # with fewer, what a start costs anyway would be multiplied by a hundred
STATE = "worker-0/state"


def measure_state(ground: Ground, extent: Extent, say: Say) -> dict[str, object]:
    """Measure firstseen and the two peers that keep state, in turn."""
    corpus = Corpus(count=extent.distinct + extent.decisions, size=1.0, distinct=extent.distinct)
    topic = ground.topic(corpus)
    runs: dict[str, list[Measurement]] = {"firstseen": [], "quix_streams": [], "kafka_streams": []}
    problems: dict[str, str] = {}
    for _ in range(extent.state_rounds):
        for name, measured in runs.items():
            try:
                run = _measure(name, ground, topic)
            except UnavailableError as error:
                problems[name] = str(error)
                say(f"state    {name:<34} unavailable: {error}")
                continue
            measured.append(run)
            if run.void is not None:
                problems[name] = run.void
            say(f"state    {name:<34} {run.per_cpu_second:>11,.0f} decisions/CPU-s")
    valid = {
        name: Spread.of([run.per_cpu_second for run in found if run.void is None])
        for name, found in runs.items()
        if any(run.void is None for run in found)
    }
    return {
        "terms_known": corpus.distinct,
        "decisions": extent.decisions,
        "decisions_per_cpu_second": {name: spread.as_json() for name, spread in valid.items()},
        "medians": {name: spread.median for name, spread in valid.items()},
        "problems": problems,
        "runs": {name: [run.as_json() for run in found] for name, found in runs.items()},
    }


def _measure(name: str, ground: Ground, topic: Topic) -> Measurement:
    if name == "firstseen":
        return _measure_firstseen(ground, topic.corpus)
    peer: Peer = {"quix_streams": QUIX_STREAMS, "kafka_streams": KAFKA_STREAMS}[name]
    run = peer.measure(
        ground, topic, start_after=str(topic.corpus.distinct), warm_up=str(topic.corpus.distinct)
    )
    return _with_terms_checked(run, int(run.more.get("new", -1)), topic)


def _with_terms_checked(run: Measurement, new: int, topic: Topic) -> Measurement:
    """Void a run that did not find each term new once."""
    wanted = distinct_terms(topic.corpus)
    if new == wanted:
        return run
    return replace(run, found=new, expected=wanted)


def _measure_firstseen(ground: Ground, corpus: Corpus) -> Measurement:
    topic = ground.empty_topic(ground.new_group("state"), corpus)
    with FIRSTSEEN.deployed(ground, topic.name, PATIENT) as deployment:
        (worker,) = FIRSTSEEN.start(ground, deployment)
        watch = Watch(ground, deployment, topic, [worker])
        watch.until_ready()
        ground.produce(topic, end=corpus.distinct)
        watch.until_done(corpus.distinct)
        with watch.frozen():
            ground.produce(topic, first=corpus.distinct)
            begin = watch.sample()
        run = FIRSTSEEN.result(watch, begin, watch.until_done())
        new = watch.metric("firstseen_sightings_total", result="new")
        covered = watch.metric("firstseen_observations_total", result="covered")
        worker.stop()
        size = folder_bytes(deployment.directory / STATE)
        intact, _ = _seconds_to_start(ground, deployment)
        shutil.rmtree(deployment.directory / STATE)
        wiped, cpu = _seconds_to_start(ground, deployment)
        terms = distinct_terms(corpus)
        figures: dict[str, float] = {
            "new": new,
            "covered": covered,
            "state_bytes": size,
            "state_bytes_per_term": significant(size / terms),
            "start_seconds_with_state": significant(intact),
            "start_seconds_without_state": significant(wiped),
            "start_cpu_seconds_without_state": significant(cpu),
        }
        if terms >= _ENOUGH_TERMS:
            seconds = (wiped - intact) / terms * 1e6
            figures["recovery_seconds_per_million_terms"] = significant(seconds)
        return _with_terms_checked(replace(run, more=run.more | figures), new, topic)


def _seconds_to_start(ground: Ground, deployment: Deployment) -> tuple[float, float]:
    """Start a worker on what its folder holds; wall and CPU seconds until it is ready."""
    begin = time.monotonic()
    (worker,) = FIRSTSEEN.start(ground, deployment)
    wait_ready(ground, worker, _READY_SECONDS)
    seconds = time.monotonic() - begin
    times = psutil.Process(worker.process.pid).cpu_times()
    worker.stop()
    return seconds, times.user + times.system
