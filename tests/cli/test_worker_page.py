"""What the demo reads from a worker's metrics; the names are those of the catalogue."""

from __future__ import annotations

from pipeline.cli.worker_page import WorkerPage, read_counters
from pipeline.embedded.process import free_ports
from pipeline.telemetry.metrics import Metrics


def metrics_of_some_work() -> Metrics:
    metrics = Metrics()
    metrics.records_processed.labels("t", "no_match").inc(90)
    metrics.records_processed.labels("t", "matched").inc(10)
    metrics.rule_matches.labels("r").inc(10)
    metrics.observations.labels("forwarded").inc(8)
    metrics.observations.labels("covered").inc(2)
    metrics.sightings.labels("new").inc(5)
    metrics.sightings.labels("known").inc(3)
    metrics.new_terms.labels("r").inc(5)
    metrics.alerts.labels("r").inc(2)
    metrics.alerts_overflow.labels("r", "quota").inc(2)
    metrics.alerts_duplicate.inc(1)
    metrics.alert_summaries.inc(1)
    metrics.consumer_lag.labels("t", "0").set(0)
    return metrics


def counters(metrics: Metrics):
    return read_counters(metrics.render().decode())


def test_every_counter_is_found():
    assert counters(metrics_of_some_work())._asdict() == {
        "records": 100,
        "matched": 10,
        "forwarded": 8,
        "sightings": 8,
        "new_terms": 5,
        "alerts": 2,
        "overflow": 2,
        "duplicates": 1,
        "summaries": 1,
        "dead_letters": 0,
        "lag": 0,
    }


def test_a_worker_is_settled_when_nothing_is_between_its_stages():
    assert counters(metrics_of_some_work()).settled


def test_a_worker_is_not_settled_while_something_waits():
    lagging, judging, deciding = (metrics_of_some_work() for _ in range(3))
    lagging.consumer_lag.labels("t", "1").set(1)
    judging.observations.labels("forwarded").inc()
    deciding.new_terms.labels("r").inc()

    assert [counters(each).settled for each in (lagging, judging, deciding)] == [False] * 3


def test_a_worker_that_does_not_answer_says_nothing():
    page = WorkerPage(free_ports(1)[0])

    assert (page.ready(), page.counters()) == (False, None)
