"""Runs are added up, and what must be 0 is told."""

from __future__ import annotations

from typing import Any

from tests.chaos.report import add_up, markdown, problems
from tests.chaos.schedule import Kind

RUN: dict[str, Any] = {
    "seed": 1,
    "events": 1000,
    "new_terms": 50,
    "seconds": 12.0,
    "drained_after": 3.0,
    "faults": {str(Kind.KILL): 3},
    "gaps": {},
    "worker_kills": 4,
    "worker_exits": {"0": 1},
    "recoveries": [1.0, 2.0, 9.0],
    "samples": 5,
    "dead_letters": 0,
    **{
        name: []
        for name in (
            "lost",
            "invented",
            "duplicated",
            "differing",
            "split",
            "passed",
            "turned_back",
            "broken",
        )
    },
}


def test_runs_are_added_up():
    other = {**RUN, "faults": {str(Kind.KILL): 1, str(Kind.GAP): 1}, "recoveries": [30.0]}
    results = add_up([RUN, {**other, "duplicated": ["x"]}])

    assert results["runs"] == 2
    assert results["faults"] == {str(Kind.KILL): 4, str(Kind.GAP): 1}
    assert results["worker_kills"] == 8
    assert results["duplicated"] == 1
    assert results["recovery_seconds"] == {"p50": 2.0, "p99": 30.0, "max": 30.0}
    assert problems(results) == []


def test_a_lost_term_and_a_run_that_never_ended_are_problems():
    assert [line.split()[0] for line in problems(add_up([{**RUN, "lost": ["a", "b"]}]))] == ["2"]
    assert len(problems(add_up([{**RUN, "drained_after": None}]))) == 1
    assert len(problems(add_up([{**RUN, "dead_letters": 1}]))) == 1


def test_a_run_without_faults_has_no_recovery():
    assert add_up([{**RUN, "recoveries": []}])["recovery_seconds"]["p50"] is None


def test_the_table_names_faults_and_outcome():
    table = markdown(add_up([RUN]))

    assert "| Worker killed | 3 |" in table
    assert "| New terms lost | 0 |" in table
    assert "| Recovery, longest | 9.0 s |" in table
