"""An alert as people see it."""

from __future__ import annotations

import click
import orjson
import pytest

from pipeline.cli.alerts import show_alert
from tests.events import library_event


def alert_of(run, tmp_path, event: dict) -> bytes:
    path = tmp_path / "one.ndjson"
    path.write_bytes(orjson.dumps(event))
    return run("replay", path).stdout.encode()


def test_the_block_answers_what_an_analyst_asks(run, tmp_path):
    text = click.unstyle(show_alert(alert_of(run, tmp_path, library_event(signer="Acme"))))

    lines = text.splitlines()
    alert_id = lines.pop().split()
    assert lines == [
        "● medium  Suspicious PowerShell Engine ImageLoad  2026-03-02T08:00:00.000Z",
        "  host     h1 (h1)",
        "  user     CORP\\ann (S-1-5-21-1)",
        "  process  C:\\Users\\ann\\tool.exe (pid 4242), signed by Acme",
        "  library  C:\\Windows\\assembly\\System.Management.Automation.ni.dll",
        "  why      first time in 14d of this host.id + process.executable + user.id",
        "  threat   Execution (TA0002) / T1059 / T1059.001",
        "  source   one.ndjson[0]@0",
    ]
    assert alert_id[0] == "alert"


def test_terms_of_any_field_are_told():
    """Else nobody sees which parent process or address it is that is new."""
    terms = [
        {"field": "host.id", "value": "h1"},
        {"field": "process.parent.executable", "value": "C:\\Office\\WINWORD.EXE"},
        {"field": "user.name", "value": ""},
    ]
    detection = {"new_terms": terms, "first_seen": {"window": "7d"}}
    alert = orjson.dumps({"host": {"id": "h1"}, "detection": detection})

    assert click.unstyle(show_alert(alert)).splitlines()[1:] == [
        "  host     h1",
        "  why      first time in 7d of this host.id + process.parent.executable + user.name",
        '  new      process.parent.executable C:\\Office\\WINWORD.EXE, user.name ""',
    ]


def test_a_summary_says_its_reason():
    text = show_alert(
        orjson.dumps(
            {
                "@timestamp": "2026-03-02T08:05:00.000Z",
                "event": {"id": "x", "reason": "rule R raised 250 alerts"},
                "rule": {"name": "R"},
                "labels": {"severity": "high"},
            }
        )
    )

    assert click.unstyle(text).splitlines() == [
        "● high  R  2026-03-02T08:05:00.000Z",
        "  why      rule R raised 250 alerts",
        "  alert    x",
    ]


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"event_time_source": "@timestamp", "event_time_capped": False}, None),
        (
            {"event_time_source": "@timestamp", "event_time_capped": True},
            "  time     2026-03-02T08:00:00.000Z (at most: the event is dated in the future)",
        ),
        (
            {"event_time_source": "record", "event_time_capped": False},
            "  time     2026-03-02T08:00:00.000Z (of its record: the event has no usable time)",
        ),
        (
            {"new_terms": [{"field": "a"}], "first_seen": {"window": "14d", "remembered": False}},
            "  why      first time in 14d of this a, unless alerted before: the rule is full",
        ),
    ],
)
def test_what_an_analyst_should_not_take_as_it_stands_is_said(said, line):
    """#wrong-clocks: a date that is no clock's of the host, and a novelty that may be none."""
    detection = {"event_time": "2026-03-02T08:00:00.000Z", **said}
    alert = {"@timestamp": "2026-03-02T08:00:01.000Z", "detection": detection}
    lines = click.unstyle(show_alert(orjson.dumps(alert))).splitlines()[1:]

    assert lines == ([] if line is None else [line])


def test_an_event_of_the_minute_before_is_not_late():
    alert = {
        "@timestamp": "2026-03-02T08:00:03.000Z",
        "detection": {"event_time": "2026-03-02T07:59:57.000Z", "event_time_source": "@timestamp"},
    }

    assert len(show_alert(orjson.dumps(alert)).splitlines()) == 1


def test_an_event_that_was_read_late_has_its_own_time():
    alert = {
        "@timestamp": "2026-03-16T08:00:00.000Z",
        "detection": {"event_time": "2026-03-02T08:00:00.000Z", "event_time_source": "@timestamp"},
    }
    lines = click.unstyle(show_alert(orjson.dumps(alert))).splitlines()

    assert lines[1:] == ["  time     2026-03-02T08:00:00.000Z"]


def test_values_cannot_drive_the_terminal(run, tmp_path):
    event = library_event(executable="C:\\a\x1b[2J\nb\u202e.exe")
    event["host"]["name"] = ["one\x07", "two"]
    text = click.unstyle(show_alert(alert_of(run, tmp_path, event)))

    assert all(line.isprintable() for line in text.splitlines())
    assert "C:\\a\\x1b[2J\\nb\\u202e.exe" in text


def test_any_json_and_any_bytes_have_a_text():
    odd = [b"", b"\xff\x1b[2J", b"[1]", b"null", b'{"rule":1,"event":[],"detection":"x"}']

    shown = [click.unstyle(show_alert(value)) for value in odd]
    assert all(line.isprintable() for text in shown for line in text.splitlines())
    assert shown[1] == "not an alert: \ufffd\\x1b[2J"
