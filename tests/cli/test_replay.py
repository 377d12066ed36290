"""firstseen replay: alerts on stdout, everything said about them on stderr."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import zstandard

from tests.events import NO_JSON, encode, library_event
from tests.rules import BUILTIN_RULE, as_threshold_rule
from tests.terminals import written_to


def documents(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_each_new_term_is_a_line_of_json(run, events):
    result = run("replay", events)

    alerts = documents(result.stdout)
    assert result.exit_code == 0
    assert [alert["user"]["id"] for alert in alerts] == ["S-1-5-21-1", "S-1-5-21-2"]
    assert [alert["detection"]["source"]["offset"] for alert in alerts] == [0, 2]


def test_the_summary_is_for_people(run, events):
    summary = run("replay", events).stderr

    lines = [line.split() for line in summary.splitlines()]
    assert ["Lines", "read", "4"] in lines
    assert ["New", "terms", "2"] in lines
    assert ["Suspicious", "PowerShell", "Engine", "ImageLoad", "3", "2"] in lines


def test_with_json_the_summary_is_one_line_of_json(run, events):
    result = run("replay", "--json", events)

    (summary,) = documents(result.stderr)
    counted = {name: summary[name] for name in ("lines", "matches", "new_terms", "known", "alerts")}
    assert counted == {"lines": 4, "matches": 3, "new_terms": 2, "known": 1, "alerts": 2}
    assert len(documents(result.stdout)) == 2


def test_a_second_run_gives_the_same_alerts_byte_for_byte(run, events):
    assert run("replay", events).stdout == run("replay", events).stdout


def test_what_a_state_folder_knows_is_not_told_again(run, events, tmp_path):
    state = tmp_path / "state"
    first = run("replay", "--state", state, events)
    second = run("replay", "--state", state, events)

    assert (len(documents(first.stdout)), second.stdout) == (2, "")


def test_an_exception_silences_its_events_and_what_the_rule_knows_it_still_knows(
    run, events, tmp_path
):
    state, exceptions, later = (tmp_path / name for name in ("state", "e.toml", "later.ndjson"))
    run("replay", "--state", state, events)
    exceptions.write_text(
        f"[[exceptions]]\nname = 'a harmless user'\nrules = ['{BUILTIN_RULE}']\n"
        "query = 'user.id:S-1-5-21-3'\n"
    )
    users = ("S-1-5-21-1", "S-1-5-21-2", "S-1-5-21-3", "S-1-5-21-4")
    brought = [library_event(number=10 + n, user=user) for n, user in enumerate(users)]
    later.write_bytes(b"".join(encode(event) + b"\n" for event in brought))

    result = run("replay", "--rules", exceptions, "--state", state, later)

    assert [alert["user"]["id"] for alert in documents(result.stdout)] == ["S-1-5-21-4"]

    without = run("replay", "--state", state, later)

    assert [alert["user"]["id"] for alert in documents(without.stdout)] == ["S-1-5-21-3"]


def test_a_time_in_the_future_counts_as_now(run, tmp_path):
    """#the-future-guard: a file does not tell when its lines arrived."""
    file = tmp_path / "future.ndjson"
    late = datetime(2199, 1, 1, tzinfo=UTC)
    file.write_bytes(encode(library_event(at=late)) + b"\n")
    result = run("replay", file)

    (alert,) = documents(result.stdout)
    assert alert["detection"]["event_time_capped"]
    assert alert["detection"]["event_time"] < "2199"
    assert ["Dated", "in", "the", "future", "1"] in [
        line.split() for line in result.stderr.splitlines()
    ]


def test_packed_files_and_stdin_are_read(run, events, tmp_path):
    packed = tmp_path / "events.ndjson.gz"
    packed.write_bytes(gzip.compress(events.read_bytes()))
    frame = tmp_path / "events.ndjson.zst"
    frame.write_bytes(zstandard.compress(events.read_bytes()))

    results = [
        run("replay", packed),
        run("replay", frame),
        run("replay", "-", stdin=events.read_bytes()),
    ]
    assert [len(documents(result.stdout)) for result in results] == [2, 2, 2]


def test_a_file_that_breaks_off_is_a_usage_error_with_its_line(run, events, tmp_path):
    packed = tmp_path / "events.ndjson.gz"
    packed.write_bytes(gzip.compress(events.read_bytes())[:-10])
    result = run("replay", packed)

    assert result.exit_code == 2
    assert f"{packed}: cannot be read after line" in result.stderr


def test_other_rules_may_be_given(run, events, rule_file):
    alerts = documents(run("replay", "--rules", rule_file, events).stdout)

    assert [alert["rule"]["id"] for alert in alerts] == ["ann-1"] * 4


def test_a_rule_that_cannot_be_used_does_not_stop_the_others(run, events, rule_file, tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text("[rule]\n")
    result = run("replay", "--rules", rule_file, "--rules", bad, events)

    assert result.exit_code == 0
    assert f"Error: not used: {bad}:1:" in result.stderr
    assert len(documents(result.stdout)) == 4


def test_without_a_usable_rule_there_is_nothing_to_replay(run, events, tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text("[rule]\n")

    assert run("replay", "--rules", bad, events).exit_code == 4


def test_rules_of_a_type_that_is_not_run_are_named_with_the_reason(
    run, events, rule_file, tmp_path
):
    other = tmp_path / "threshold.toml"
    other.write_text(as_threshold_rule(rule_file.read_text()).replace("ann-1", "ann-2"))
    result = run("replay", "--rules", rule_file, "--rules", other, events)

    assert result.exit_code == 0
    assert "Warning: not run: ann-2: threshold rules count matches" in result.stderr


def test_with_nothing_to_run_a_replay_cannot_start(run, events, rule_file):
    rule_file.write_text(as_threshold_rule(rule_file.read_text()))
    result = run("replay", "--rules", rule_file, events)

    assert result.exit_code == 4
    assert "no rule can be run" in result.stderr


def test_index_patterns_count_unless_told_otherwise(run, tmp_path):
    event = library_event()
    event["data_stream"]["dataset"] = "other"
    path = tmp_path / "other.ndjson"
    path.write_bytes(encode(event))

    counts = [
        len(documents(run("replay", *flags, path).stdout)) for flags in ([], ["--ignore-index"])
    ]
    assert counts == [0, 1]


@pytest.mark.parametrize(("flags", "code"), [([], 0), (["--strict"], 1)])
def test_only_with_strict_is_a_bad_line_a_finding(run, events, flags, code):
    with events.open("ab") as file:
        file.write(NO_JSON + b"\n")
    result = run("replay", *flags, events)

    assert result.exit_code == code
    assert f"{events}:5: invalid_json" in result.stderr


def test_strict_decodes_also_the_lines_that_no_rule_can_match(run, events):
    with events.open("ab") as file:
        file.write(b"not json\n")

    assert run("replay", "--strict", "--json", events).exit_code == 1


def test_on_a_terminal_alerts_are_harmless_and_still_json(start, tmp_path):
    event = library_event(executable="C:\\\x9b2J\u202e\x1b[2J.exe")
    path = tmp_path / "events.ndjson"
    path.write_text(json.dumps(event, ensure_ascii=False))
    ours, theirs = pty.openpty()
    process = start("replay", path, stdout=theirs)
    os.close(theirs)
    shown = written_to(ours)
    _, err = process.communicate()

    assert process.returncode == 0, err
    assert all(c.isprintable() for c in shown.rstrip("\r\n"))
    assert json.loads(shown)["process"]["executable"] == "C:\\\x9b2J\u202e\x1b[2J.exe"


SHOWS_EVERY_LINE = """
from pipeline.cli import progress, root
progress._REFRESH_SECONDS = -1.0
root.firstseen()
"""


def test_on_a_terminal_there_is_a_progress_bar(events):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", SHOWS_EVERY_LINE, "replay", events]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = written_to(ours)
        out, _ = process.communicate()

    assert process.returncode == 0
    assert len(out.splitlines()) == 2
    assert "━" in shown
    assert "lines · " in shown
    assert "SUMMARY" in shown.rpartition("\x1b[2K")[2]


def test_off_a_terminal_there_is_none(run, events):
    assert "━" not in run("replay", events).stderr
