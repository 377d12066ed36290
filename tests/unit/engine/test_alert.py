"""Golden alert documents: run with UPDATE_GOLDEN=1 to write them anew, then review the diff."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.engine.alert import EventContext, build_alert, build_match_alert, build_summary
from pipeline.engine.decode import MAX_DEPTH
from pipeline.engine.durations import duration_text
from pipeline.engine.entities import MAX_CHARACTERS
from pipeline.engine.first_seen import FirstSeenVerdict
from pipeline.engine.wire import NewTerm, Observation, RuleRef, Source
from pipeline.errors import DecodeError
from pipeline.rules.model import NewTerms, Rule, RuleType, Severity, Technique, Threat

GOLDEN = Path(__file__).parents[2] / "cases" / "alerts"
NOON_MS = 1_714_564_800_000
DAY_MS = 86_400_000
DIGEST = "d" * 64

RULE = Rule(
    rule_id="11111111-2222-3333-4444-555555555555",
    name="Engine loaded by an unusual process",
    description="A process loads the engine for the first time.",
    type=RuleType.NEW_TERMS,
    version=7,
    severity=Severity.HIGH,
    risk_score=73,
    new_terms=NewTerms(("host.id", "process.executable"), 14 * DAY_MS, "now-14d"),
    references=("https://example.org/engine",),
    author=("Example",),
    license="Apache-2.0",
    tags=("OS: Windows", "Tactic: Execution"),
    threat=(
        Threat(
            "MITRE ATT&CK",
            "TA0002",
            "Execution",
            "https://attack.mitre.org/tactics/TA0002/",
            (
                Technique(
                    "T1059",
                    "Command and Scripting Interpreter",
                    "https://attack.mitre.org/techniques/T1059/",
                    (
                        Technique(
                            "T1059.001",
                            "PowerShell",
                            "https://attack.mitre.org/techniques/T1059/001/",
                        ),
                    ),
                ),
            ),
        ),
        Threat("MITRE ATT&CK", "TA0005", "Stealth", "https://attack.mitre.org/tactics/TA0005/", ()),
    ),
)

LIBRARY_EVENT: dict[str, Any] = {
    "@timestamp": "2024-05-01T12:00:00.1234567Z",
    "@metadata": {"beat": "x"},
    "event": {"id": "ev-1", "category": ["library"], "type": ["start"], "action": "load"},
    "data_stream": {"type": "logs", "dataset": "endpoint.events.library", "namespace": "default"},
    "dll": {"name": "engine.dll", "path": "C:\\Lib\\engine.dll", "hash": {"sha256": "ab" * 32}},
    "host": {"id": "h-1", "name": "ws-1", "os": {"type": "windows"}},
    "process": {"executable": "C:\\Temp\\\u001b[31mtool.exe", "pid": 4242},
    "user": {"id": "S-1-5-21", "name": "ana", "domain": "LAB"},
    "message": "Endpoint DLL load event",
}
DOTTED_EVENT: dict[str, Any] = {
    "@timestamp": 1714564800123,
    "event.category": "network",
    "host.name": "fw-1",
    "source": {"ip": ["10.0.0.1", "10.0.0.1"]},
    "destination.ip": "192.0.2.9",
}


def observe(event: dict[str, Any], *terms: Any, fields: tuple[str, ...]) -> Observation:
    rule = msgspec.structs.replace(RuleRef.of(RULE), fields=fields)
    return Observation(
        rule=rule,
        history="0123456789abcdef" if terms else "",
        window_ms=14 * DAY_MS if terms else 0,
        terms=terms,
        time_ms=NOON_MS + 123,
        event_id="ev-1",
        alert_id="a" * 40,
        source=Source("library", 3, 99, NOON_MS + 400),
        event=msgspec.Raw(json.dumps(event).encode()),
        time_source="@timestamp",
    )


LIBRARY = observe(
    LIBRARY_EVENT,
    "h-1",
    "C:\\Temp\\\u001b[31mtool.exe",
    fields=("host.id", "process.executable"),
)
FIRST = FirstSeenVerdict(True, False, None, NOON_MS + 123, NOON_MS + 123, 1)
AGAIN = msgspec.structs.replace(FIRST, previous_ms=NOON_MS - 30 * DAY_MS)


def first_time() -> bytes:
    return text(build_alert(LIBRARY, FIRST, RULE, created_ms=NOON_MS + 500, ruleset_digest=DIGEST))


def seen_before() -> bytes:
    return text(
        build_alert(
            msgspec.structs.replace(LIBRARY, capped=True),
            AGAIN,
            RULE,
            created_ms=NOON_MS + 500,
            ruleset_digest=DIGEST,
            include_event=False,
        )
    )


def rule_is_full() -> bytes:
    refused = msgspec.structs.replace(FIRST, remembered=False)
    return text(
        build_alert(LIBRARY, refused, RULE, created_ms=NOON_MS + 500, ruleset_digest=DIGEST)
    )


def rule_not_loaded() -> bytes:
    observation = observe(DOTTED_EVENT, "10.0.0.1", True, 443, fields=())
    return text(
        build_alert(observation, FIRST, None, created_ms=NOON_MS + 500, ruleset_digest=DIGEST)
    )


def query_match() -> bytes:
    observation = observe(DOTTED_EVENT, fields=())
    rule = dataclasses.replace(RULE, type=RuleType.QUERY, new_terms=None, threat=(), tags=())
    return text(
        build_match_alert(
            observation,
            rule,
            EventContext(bytes(observation.event)),
            created_ms=NOON_MS + 500,
            ruleset_digest=DIGEST,
        )
    )


def summary() -> bytes:
    return build_summary(
        RuleRef.of(RULE),
        NOON_MS,
        window_end_ms=NOON_MS + 300_000,
        total=250,
        overflow=150,
        sample_terms=[("h-1", "C:\\a.exe"), ("h-2", "C:\\b.exe")],
        created_ms=NOON_MS + 300_000,
    )[1]


def text(new_term: NewTerm) -> bytes:
    return bytes(new_term.alert)


@pytest.mark.parametrize(
    "build",
    [first_time, seen_before, rule_is_full, rule_not_loaded, query_match, summary],
    ids=lambda f: f.__name__,
)
def test_an_alert_is_the_golden_document(build: Callable[[], bytes]) -> None:
    path = GOLDEN / f"{build.__name__}.json"
    document = build()
    if os.environ.get("UPDATE_GOLDEN") == "1":
        shown = json.dumps(json.loads(document), indent=2, ensure_ascii=True)
        path.write_text(shown + "\n", encoding="utf-8")

    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(document)
    assert document == build()


def test_control_characters_stay_in_the_values_and_are_escaped_by_json() -> None:
    document = first_time()

    assert b"\x1b" not in document
    assert "\x1b[31m" in json.loads(document)["process"]["executable"]


def texts_of(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)
    elif isinstance(value, dict):
        yield from value
        yield from texts_of(list(value.values()))


def test_no_value_of_an_alert_is_too_long_for_an_index_except_the_original() -> None:
    long = "\U0001f600" * 300_000
    event = {
        **LIBRARY_EVENT,
        "event": {"id": long, "category": [long], "action": long},
        "process": {"command_line": long, "args": [long], long: long},
        "host": {"name": long, "id": [long, long]},
        "user": {"name": long, "domain": long},
    }
    observation = msgspec.structs.replace(
        observe(event, long, "x", fields=("process.command_line", "host.id")), event_id=long
    )

    new_term = build_alert(observation, FIRST, RULE, created_ms=NOON_MS, ruleset_digest=DIGEST)

    document = json.loads(text(new_term))
    assert document["event"].pop("original") == bytes(observation.event).decode()
    assert max(map(len, texts_of(document))) == MAX_CHARACTERS
    assert max(len(each.encode()) for each in texts_of(document)) <= 32_766
    assert new_term.terms == (long[:MAX_CHARACTERS], "x")
    assert len(json.dumps(document, ensure_ascii=False)) < 200_000


def test_a_value_stays_a_value_whatever_it_looks_like() -> None:
    injected = '"},"rule":{"id":"forged"},"event":{"kind":"event\n{"a":1}'
    event = {
        **LIBRARY_EVENT,
        "rule": {"id": "forged", "name": "forged"},
        "rule.name": "forged",
        "detection": {"kind": "forged"},
        "labels": {"severity": "forged"},
        "threat": "forged",
        "tags": ["forged"],
        "process": {"executable": injected},
    }
    observation = observe(event, injected, injected, fields=("host.id", "process.executable"))

    document = json.loads(
        text(build_alert(observation, FIRST, RULE, created_ms=NOON_MS, ruleset_digest=DIGEST))
    )

    assert document["process"]["executable"] == injected
    assert [each["value"] for each in document["detection"]["new_terms"]] == [injected, injected]
    assert document["rule"]["id"] == RULE.rule_id
    assert document["rule"]["name"] == RULE.name
    assert (document["event"]["kind"], document["labels"]["severity"]) == ("alert", "high")
    del document["event"]["original"]
    assert "forged" not in {each for each in texts_of(document) if each != injected}


def test_the_alert_of_a_building_block_says_so() -> None:
    rule = dataclasses.replace(RULE, building_block_type="default")

    new_term = build_alert(LIBRARY, FIRST, rule, created_ms=NOON_MS, ruleset_digest=DIGEST)
    match = build_match_alert(
        LIBRARY,
        rule,
        EventContext(bytes(LIBRARY.event)),
        created_ms=NOON_MS,
        ruleset_digest=DIGEST,
    )

    for alert in (new_term, match):
        assert json.loads(text(alert))["detection"]["building_block_type"] == "default"
    assert "building_block_type" not in json.loads(first_time())["detection"]


def test_the_original_event_is_the_text_as_it_came() -> None:
    original = json.loads(first_time())["event"]["original"]

    assert bytes(LIBRARY.event).decode() == original


def test_the_alert_of_a_repeated_sighting_is_the_same_bytes() -> None:
    repeated = msgspec.structs.replace(FIRST, repeated=True)

    again = build_alert(LIBRARY, repeated, RULE, created_ms=NOON_MS + 500, ruleset_digest=DIGEST)

    assert first_time() == text(again)


def test_every_field_of_the_golden_alerts_is_in_the_reference() -> None:
    reference = Path(__file__).parents[3] / "docs" / "reference" / "alert-fields.md"
    page = reference.read_text(encoding="utf-8")

    missing = {
        name
        for path in GOLDEN.glob("*.json")
        for name in field_names(json.loads(path.read_text(encoding="utf-8")))
        if f"`{name}`" not in page
    }

    assert set() == missing


COPIED = {
    "agent",
    "destination",
    "destination.ip",
    "dll",
    "host",
    "host.name",
    "process",
    "source",
    "user",
}


def field_names(document: Any, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in document.items():
        name = f"{prefix}{key}"
        if name in COPIED:
            continue
        inner = value[0] if isinstance(value, list) and value else value
        found |= field_names(inner, f"{name}.") if isinstance(inner, dict) else {name}
    return found


@pytest.mark.parametrize(
    ("length_ms", "long", "short"),
    [
        (14 * DAY_MS, "14 days", "14d"),
        (DAY_MS, "1 day", "1d"),
        (36 * 3_600_000, "36 hours", "36h"),
        (300_000, "5 minutes", "5m"),
        (1_000, "1 second", "1s"),
        (1_500, "1500 ms", "1500ms"),
        (0, "0 ms", "0ms"),
    ],
)
def test_a_length_of_time_is_told_in_the_largest_unit_that_divides_it(
    length_ms: int, long: str, short: str
) -> None:
    assert (long, short) == (duration_text(length_ms), duration_text(length_ms, short=True))


def test_the_deepest_event_that_may_be_read_makes_an_alert():
    deep: Any = "leaf"
    for _ in range(MAX_DEPTH - 1):
        deep = {"a": deep}
    observation = observe({"host": deep}, "h-1", "x", fields=("host.id", "process.executable"))

    new_term = build_alert(observation, FIRST, RULE, created_ms=NOON_MS, ruleset_digest=DIGEST)

    assert json.loads(bytes(new_term.alert))["host"] == deep


@pytest.mark.parametrize("event", [b"[]", b"1e999", b'{"host":' * 300 + b"1" + b"}" * 300])
def test_an_event_that_no_match_stage_has_read_makes_none(event: bytes):
    observation = msgspec.structs.replace(LIBRARY, event=msgspec.Raw(event))

    with pytest.raises(DecodeError) as caught:
        build_alert(observation, FIRST, RULE, created_ms=NOON_MS, ruleset_digest=DIGEST)

    assert caught.value.reason == "invalid_envelope"


def test_no_field_of_an_event_takes_the_place_of_one_of_the_alert():
    """An event that speaks JSON, or names our fields, stays what was seen and nothing else."""
    forged = {
        "rule": {"id": "forged"},
        "rule.name": "forged",
        "event": {"kind": "forged", "id": "forged", "severity": 1, "reason": "forged"},
        "event.risk_score": 1,
        "detection": {"kind": "forged"},
        "labels": {"severity": "forged"},
        "message": "forged",
        "tags": ["forged"],
        "threat": {"tactic": {"id": "forged"}},
        "host": {"id": 'h","rule":{"id":"forged"},"x":"\\'},
        "process": {"executable": '"}}\n{"rule":{"id":"forged"}}\x00\u2028'},
    }
    honest = observe({}, "h-1", "x", fields=("host.id", "process.executable"))
    event = msgspec.Raw(json.dumps(forged).encode())

    built, plain = (
        build_alert(each, FIRST, RULE, created_ms=NOON_MS, ruleset_digest=DIGEST)
        for each in (msgspec.structs.replace(honest, event=event), honest)
    )
    alert, expected = json.loads(bytes(built.alert)), json.loads(bytes(plain.alert))

    assert len(bytes(built.alert).splitlines()) == 1
    assert json.loads(alert["event"]["original"]) == forged
    assert alert["host"] == forged["host"]
    assert alert["process"] == forged["process"]
    reasons = {"message", "event"}
    for name in expected.keys() - reasons:
        assert alert[name] == expected[name]
    for name in expected["event"].keys() - {"original", "reason"}:
        assert alert["event"][name] == expected["event"][name]
