"""Statistics, ratios and the guard that voids a wrong measurement."""

from __future__ import annotations

import struct

import pytest

from tests.benchmarks.generator import Corpus
from tests.benchmarks.measurement import Measurement
from tests.benchmarks.peers.decompression_limit import batches
from tests.benchmarks.protocol import Task
from tests.benchmarks.report import problems, ratios, reached, summary
from tests.benchmarks.statistics import Spread, percentile, significant


def _measured(**changes: float) -> Measurement:
    figures: dict[str, float] = {
        "events": 1000,
        "cpu_seconds": 0.5,
        "wall_seconds": 2.0,
        "consumed": 1000,
        "found": 7,
        "expected": 7,
        "expected_consumed": 1000,
    }
    return Measurement(contestant="somebody", **{**figures, **changes})  # type: ignore[arg-type]


def _case(median: float | None, problem: str | None = None) -> dict[str, object]:
    spread = None if median is None else {"median": median}
    return {"events_per_cpu_second": spread, "problem": problem}


def test_a_spread_holds_the_median_and_what_lies_around_it() -> None:
    spread = Spread.of([4.0, 1.0, 2.0, 100.0, 3.0])
    assert (spread.median, spread.least, spread.most, spread.mad) == (3.0, 1.0, 100.0, 1.0)


def test_there_is_no_median_of_nothing() -> None:
    with pytest.raises(ValueError, match="no value"):
        Spread.of([])


@pytest.mark.parametrize(("percent", "wanted"), [(50, 50), (99, 99), (99.9, 100), (100, 100)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, wanted: float) -> None:
    assert percentile([float(n) for n in range(1, 101)], percent) == wanted


def test_no_more_digits_are_told_than_were_measured() -> None:
    assert significant(123456.789) == 123500.0


def test_a_measurement_counts_when_everything_was_consumed_and_the_truth_found() -> None:
    run = _measured()
    assert (run.void, run.per_cpu_second, run.per_second) == (None, 2000.0, 500.0)


def test_a_measurement_that_missed_an_event_is_void() -> None:
    assert _measured(consumed=999).void == "consumed 999 events of 1000"
    assert _measured(found=8).void == "found 8 events, the truth is 7"


def test_ratios_are_ours_over_theirs_but_for_the_cost_of_rules() -> None:
    main = {
        "firstseen": _case(1000.0),
        "stock_faust": _case(10.0),
        "firstseen_rules_241": _case(800.0),
    }
    state = {"medians": {"firstseen": 50.0, "quix_streams": 20.0}}
    found = ratios({"main": main}, state)
    assert found["stock_faust"] == 100.0
    assert found["rules_241_over_1"] == 1.25
    assert found["state_quix_streams"] == 2.5
    assert found["quix_streams"] is None


def test_rules_are_to_cost_little_and_peers_to_be_slower() -> None:
    assert (reached("rules_241_over_1", 1.4), reached("rules_241_over_1", 1.6)) == (True, False)
    assert (reached("stock_faust", 60.0), reached("stock_faust", 40.0)) == (True, False)
    assert (reached("bytewax", 9.0), reached("stock_faust", None)) == (None, None)


def test_the_summary_and_the_problems_say_what_is_missing() -> None:
    throughput = {"main": {"firstseen": _case(1000.0), "bytewax": _case(None, "not installed")}}
    results = {
        "throughput": throughput,
        "state": {},
        "latency": {},
        "ratios": ratios(throughput, {}),
    }
    assert problems(results) == ["main: bytewax: not installed"]
    assert "stock_faust" in summary(results)


def test_a_task_survives_the_way_to_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task("host:1", "topic", {0: 10, 1: 20}, "group", "/tmp/x", "alerts", {"a": "b"})
    monkeypatch.setattr("sys.argv", ["peer", task.encode()])
    assert Task.from_arguments() == task
    assert task.count == 30


def test_the_name_of_a_topic_tells_its_corpus() -> None:
    assert Corpus(count=10).name != Corpus(count=10, codec="lz4").name


def test_the_record_batches_of_a_segment_are_found_one_by_one() -> None:
    def batch(records: int, codec: int, payload: bytes) -> bytes:
        body = struct.pack(">iBIhiqqqhii", 0, 2, 0, codec, 0, 0, 0, 0, 0, 0, records) + payload
        return struct.pack(">qi", 0, len(body)) + body

    data = batch(3, 4, b"first") + batch(2, 3, b"second") + bytes(200)
    assert list(batches(data)) == [(4, 3, b"first"), (3, 2, b"second")]
