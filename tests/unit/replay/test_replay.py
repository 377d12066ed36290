from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.tables import MemoryTable
from pipeline.errors import StateError
from pipeline.kql import FieldTable
from pipeline.replay import EventLine, Replay, ReplaySettings, RocksTable
from pipeline.replay.replay import DEAD_LINES, RUN_KEY
from pipeline.rules.model import Rule, RuleType
from pipeline.rules.ruleset import RuleSet
from tests.rules import new_terms_rule

RULE = new_terms_rule(rule_id="new", max_signals=1)
QUERY_RULE = dataclasses.replace(RULE, rule_id="match", type=RuleType.QUERY, new_terms=None)


def ruleset(*rules: Rule) -> RuleSet:
    return RuleSet.compile(rules or (RULE,), FieldTable.builtin())[0]


def line(number: int, process: str, day: int = 1, **changes: Any) -> EventLine:
    event = {
        "@timestamp": f"2024-05-{day:02}T00:00:00Z",
        "event": {"id": f"e{number}"},
        "dll": {"name": "engine.dll"},
        "process": {"executable": process},
    } | changes
    return EventLine("folder/events.ndjson", number, json.dumps(event).encode())


def alerts(replay: Replay, lines: list[EventLine]) -> list[dict[str, Any]]:
    return [json.loads(alert) for alert in replay.run(lines)]


def terms(found: list[dict[str, Any]]) -> list[Any]:
    return [alert["detection"]["new_terms"][0]["value"] for alert in found]


LINES = [line(1, "a"), line(2, "b"), line(3, "a"), line(4, "c"), line(5, "a", day=9)]


def test_every_new_term_is_told_and_no_quota_holds_one_back() -> None:
    replay = Replay(ruleset(), MemoryTable())

    found = alerts(replay, LINES)

    assert ["a", "b", "c", "a"] == terms(found)
    assert "2024-05-01T00:00:00.000Z" == found[3]["detection"]["first_seen"]["previous"]
    assert {"matches": 5, "new_terms": 4, "known": 1, "alerts": 4}.items() <= (
        replay.stats.summary().items()
    )


def test_a_line_is_a_record_of_its_file() -> None:
    replay = Replay(ruleset(), MemoryTable())

    found = alerts(replay, [EventLine("x", 1, b" "), line(2, "a", event={})])

    source = found[0]["detection"]["source"]
    assert {"topic": "events.ndjson", "partition": 0, "offset": 1, "index": 0} == source
    assert "2024-05-01T00:00:00.000Z" == found[0]["@timestamp"]
    assert (2, 1) == (replay.stats.lines, replay.stats.blank)


def test_two_replays_with_fresh_state_give_the_same_bytes() -> None:
    first = list(Replay(ruleset(RULE, QUERY_RULE), MemoryTable()).run(LINES))
    second = list(Replay(ruleset(RULE, QUERY_RULE), MemoryTable()).run(LINES))

    assert first == second
    assert 9 == len(first)


@pytest.mark.parametrize("kind", ["memory", "rocks"])
def test_a_state_that_is_kept_knows_the_terms_of_earlier_runs(tmp_path: Path, kind: str) -> None:
    """The second run's lines have the offsets of the first: they must not look replayed."""
    table = MemoryTable() if kind == "memory" else RocksTable(tmp_path)
    alerts(Replay(ruleset(), table), LINES)

    same = alerts(Replay(ruleset(), table), LINES)
    later = alerts(Replay(ruleset(), table), [line(1, "a", day=20), line(2, "d", day=20)])
    known = alerts(Replay(ruleset(), table), [line(1, "a", day=20)])

    assert [] == same
    assert ["a", "d"] == terms(later)
    assert "2024-05-09T00:00:00.000Z" == later[0]["detection"]["first_seen"]["previous"]
    assert [] == known
    if isinstance(table, RocksTable):
        table.close()


def test_a_damaged_run_number_is_a_state_error() -> None:
    table = MemoryTable()
    table.put(RUN_KEY, b"many")

    with pytest.raises(StateError, match="run number"):
        Replay(ruleset(), table)


def test_an_alert_id_is_told_once() -> None:
    replay = Replay(ruleset(QUERY_RULE), MemoryTable())

    found = alerts(replay, [line(1, "a"), line(1, "a"), line(2, "a")])

    assert ["e1", "e2"] == [alert["detection"]["event_id"] for alert in found]
    assert 1 == replay.stats.duplicates


def test_lines_that_cannot_be_processed_are_counted_and_the_first_are_shown() -> None:
    broken = [EventLine("f", n, b'{"dll":{"name":"engine.dll"}') for n in range(1, 31)]
    replay = Replay(ruleset(), MemoryTable())

    found = alerts(replay, [*broken, line(31, "a", **{"@timestamp": None}), line(32, "a")])

    assert ["a"] == terms(found)
    assert {"invalid_json": 30, "missing_timestamp": 1} == replay.stats.summary()["dead_letters"]
    assert DEAD_LINES == len(replay.stats.first_dead_lines)
    first = replay.stats.first_dead_lines[0]
    assert ("f", 1, "invalid_json") == (first.path, first.line, first.reason)


@pytest.mark.parametrize(("now_ms", "told"), [(None, []), (1_714_521_600_000, ["a"])])
def test_a_time_in_the_future_is_capped_only_where_the_present_is_known(
    now_ms: int | None, told: list[str]
) -> None:
    table = MemoryTable()
    replay = Replay(ruleset(), table, ReplaySettings(now_ms=now_ms))
    alerts(replay, [line(1, "a", **{"@timestamp": "2099-01-01T00:00:00Z"})])

    later = alerts(Replay(ruleset(), table), [line(2, "a", day=9)])

    assert told == terms(later)
    assert (now_ms is not None) == replay.stats.future_capped


def test_the_prefilter_changes_no_alert() -> None:
    lines = [*LINES, EventLine("f", 6, b'{"a":1}')]
    fast, slow = (
        Replay(ruleset(), MemoryTable()),
        Replay(ruleset(), MemoryTable(), ReplaySettings(prefilter=False)),
    )

    assert list(fast.run(lines)) == list(slow.run(lines))
    assert (1, 0) == (fast.stats.skipped, slow.stats.skipped)


def test_the_summary_is_plain_data() -> None:
    replay = Replay(ruleset(RULE, QUERY_RULE), MemoryTable())
    alerts(replay, LINES)

    summary = json.loads(json.dumps(replay.stats.summary()))

    assert {
        "match": {"matches": 5, "new_terms": 0},
        "new": {"matches": 5, "new_terms": 4},
    } == summary["rules"]
    assert summary["seconds"] >= 0


def test_a_run_that_is_stopped_early_has_its_counts() -> None:
    replay = Replay(ruleset(), MemoryTable())

    running = replay.run(LINES)
    next(running)
    running.close()

    assert (1, 1) == (replay.stats.lines, replay.stats.alerts)
    assert replay.stats.seconds > 0
