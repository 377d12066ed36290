"""firstseen query: one KQL query, checked, tried, explained."""

from __future__ import annotations

import json

import pytest

from tests.events import encode, library_event


def test_a_query_is_written_in_its_canonical_form_with_its_fields(run):
    result = run("query", "check", "dll.name : (A.dll OR b.dll)  AND process.pid>=4")

    assert result.exit_code == 0
    canonical, _, header, *fields = result.stdout.splitlines()
    assert canonical == "dll.name:(A.dll or b.dll) and process.pid >= 4"
    assert header.split() == ["FIELD", "TYPE"]
    assert [field.split() for field in fields] == [["dll.name", "keyword"], ["process.pid", "long"]]


def test_the_check_as_json(run):
    result = run("query", "check", "--json", "dll.name:x and nope:1")

    assert json.loads(result.stdout) == {
        "query": "dll.name:x and nope:1",
        "fields": [{"name": "dll.name", "type": "keyword"}, {"name": "nope", "type": None}],
    }


def test_a_field_without_a_type_is_pointed_out(run):
    result = run("query", "check", "process.names:x")

    assert "not mapped" in result.stdout
    assert "process.name" in result.stdout


@pytest.mark.parametrize("command", ["check", "match", "explain"])
def test_an_error_shows_the_line_and_a_caret(run, command, events):
    files = [] if command == "check" else [events]
    result = run("query", command, 'user.name:("ann" or', *files)

    first, line, caret, *_ = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (1, "")
    assert first.startswith("Error: ")
    assert line == '    user.name:("ann" or'
    assert caret.strip("^") == " " * 21


def test_a_literal_that_the_type_refuses_is_an_error(run):
    result = run("query", "check", "process.pid:many")

    assert result.exit_code == 1
    assert "process.pid" in result.stderr


def test_a_query_is_tried_on_each_line(run, events):
    result = run("query", "match", "user.id:*-2", events)

    assert result.stdout.splitlines() == [
        '{"line":1,"match":false}',
        '{"line":2,"match":false}',
        '{"line":3,"match":true}',
        '{"line":4,"match":false}',
    ]
    assert result.stderr == "1 of 4 lines match\n"


def test_the_events_that_match_may_be_selected(run, events):
    result = run("query", "match", "--select", "user.id:*-2", events)

    assert result.stdout == events.read_text().splitlines()[2] + "\n"


def test_a_line_that_is_no_event_does_not_match(run):
    result = run("query", "match", "a:1", "-", stdin="{\n")

    assert result.stdout == '{"line":1,"error":"invalid_json"}\n'


def test_a_query_is_explained_clause_by_clause(run, events):
    result = run("query", "explain", "user.name:ann and not process.pid > 5000", events)

    assert result.stdout.splitlines()[:5] == [
        "line 1: matches",
        "  ✓ and",
        "    ✓ user.name:ann   read: 'ann'",
        "    ✓ not",
        "      ✗ process.pid > 5000   read: 4242",
    ]


def test_the_explanation_as_json(run, events):
    first = run("query", "explain", "--json", "user.name:bob", events).stdout.splitlines()[0]

    assert json.loads(first) == {
        "line": 1,
        "query": "user.name:bob",
        "operator": "clause",
        "matches": False,
        "values": ["ann"],
    }


def test_values_of_an_event_are_explained_harmlessly(run, tmp_path):
    path = tmp_path / "events.ndjson"
    path.write_bytes(encode(library_event(executable="\x1b[2J" + "x" * 500)))
    result = run("query", "explain", "process.executable:a", path)

    assert "\x1b" not in result.stdout
    assert len(result.stdout) < 400
