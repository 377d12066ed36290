"""Turns the ``[[tests]]`` blocks of a rule file into `RuleTest` objects.

An event is a table, or the text of a JSON object, so that an event can be pasted as it is in a
topic. ``base`` is merged under each event of its test.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from pipeline.rules.locate import Place
from pipeline.rules.model import RuleTest, RuleType
from pipeline.rules.schema import Notes, dotted, shown


def build_tests(
    blocks: Sequence[Mapping[str, Any]], kind: RuleType, notes: Notes
) -> tuple[RuleTest, ...]:
    """Return the tests of a rule of type ``kind``, and add what is wrong with them to ``notes``.

    The keys of ``blocks`` must have been checked (`pipeline.rules.keys.TEST_KEYS`).
    """
    source = notes.source
    lines = source.block_lines("tests", len(blocks)) if source is not None else [1] * len(blocks)
    return tuple(
        _build_test(block, ("tests", index), kind, line, notes)
        for index, (block, line) in enumerate(zip(blocks, lines, strict=True))
    )


def _build_test(
    block: Mapping[str, Any], place: Place, kind: RuleType, line: int, notes: Notes
) -> RuleTest:
    base = _plain(block.get("base", {}))
    events = [
        _build_event(base, value, (*place, "events", index), notes)
        for index, value in enumerate(block["events"])
    ]
    expect = tuple(block["expect"])
    if not events:
        notes.add("bad_value", (*place, "events"), f"{dotted(place)}.events holds no event")
    if len(events) != len(expect):
        notes.add(
            "bad_value",
            (*place, "expect"),
            f"{dotted(place)}.expect needs one word per event: {len(events)}, not {len(expect)}",
        )
    if "known" in expect and kind is not RuleType.NEW_TERMS:
        notes.add(
            "bad_value",
            (*place, "expect"),
            f"{dotted(place)}.expect: a {kind} rule has no history, so nothing is known to it",
            hint="write alert or no_match",
        )
    return RuleTest(block["name"], tuple(events), expect, line)


def _build_event(base: Any, value: Any, place: Place, notes: Notes) -> dict[str, Any]:
    try:
        event = json.loads(value) if isinstance(value, str) else _plain(value)
        if isinstance(event, dict):
            return _merged(base, event)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        notes.add("bad_value", place, f"{dotted(place)} is not JSON: {reason}")
        return {}
    notes.add(
        "wrong_type",
        place,
        f"{dotted(place)} must be a table or the text of a JSON object, not {shown(value)}",
    )
    return {}


def _merged(base: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``event`` laid over ``base``: tables are merged, anything else is replaced."""
    merged = dict(base)
    for name, value in event.items():
        below = merged.get(name)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[name] = _merged(below, value)
        else:
            merged[name] = value
    return merged


def _plain(value: Any) -> Any:
    """Return a TOML value as JSON has it: TOML's own dates become ISO text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    return value
