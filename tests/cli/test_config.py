"""firstseen config and firstseen metrics: what is set, what can be set, what is counted."""

from __future__ import annotations

import json

from pipeline.config import Settings
from pipeline.telemetry.catalogue import CATALOGUE


def values(text: str) -> dict[str, tuple[str, str]]:
    return {row["key"]: (row["value"], row["source"]) for row in json.loads(text)}


def test_every_setting_is_shown_with_its_source(run, tmp_path, monkeypatch):
    file = tmp_path / "firstseen.yml"
    file.write_text("kafka:\n  group.id: of-the-file\nweb:\n  port: 1\n")
    monkeypatch.setenv("FIRSTSEEN_WEB__PORT", "2")
    result = run("config", "show", "--json", "--config", file, "--set", "log.level=debug")

    shown = values(result.stdout)
    assert list(shown) == [spec.key for spec in Settings.specs()]
    assert shown["kafka.group_id"] == ("of-the-file", f"{file}:2")
    assert shown["web.port"] == ("2", "FIRSTSEEN_WEB__PORT")
    assert shown["log.level"] == ("debug", "command line")
    assert shown["web.host"] == ("127.0.0.1", "default")


def test_only_what_is_not_the_default_when_asked(run):
    result = run("config", "show", "--changed", "--set", "web.port=1234")

    header, *lines = result.stdout.splitlines()
    assert header.split() == ["KEY", "VALUE", "FROM"]
    assert [line.split() for line in lines] == [["web.port", "1234", "command", "line"]]


def test_no_secret_is_ever_printed(run, tmp_path, monkeypatch):
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    monkeypatch.setenv("FIRSTSEEN_KAFKA__SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("FIRSTSEEN_KAFKA__SASL_MECHANISM", "PLAIN")
    monkeypatch.setenv("FIRSTSEEN_KAFKA__SASL_USERNAME", "ann")
    monkeypatch.setenv("FIRSTSEEN_KAFKA__SASL_PASSWORD_FILE", str(file))

    results = [run("config", *arguments) for arguments in (["show"], ["show", "--json"], ["check"])]
    assert [result.exit_code for result in results] == [0, 0, 0]
    assert "********" in results[0].stdout
    assert all("hunter2" not in result.output for result in results)


def test_settings_that_can_work_are_fine(run):
    result = run("config", "check")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "the settings are fine\n")


def test_everything_wrong_is_said_at_once(run, monkeypatch):
    monkeypatch.setenv("FIRSTSEEN_KAFKA__GRUOP_ID", "x")
    result = run("config", "check", "--set", "web.port=many")

    assert result.exit_code == 3
    assert "FIRSTSEEN_KAFKA__GROUP_ID" in result.stderr
    assert "web.port: 'many'" in result.stderr


def test_files_that_are_named_have_to_be_there(run, tmp_path):
    missing = tmp_path / "missing"
    result = run("config", "check", "--set", f"rules.paths={missing}")

    assert result.exit_code == 3
    assert f"there is no {missing}" in result.stderr


def test_a_list_may_be_json_so_that_its_entries_may_hold_commas(run, tmp_path):
    folder = tmp_path / "a,b"
    folder.mkdir()

    assert run("config", "check", "--set", f'rules.paths=["{folder}"]').exit_code == 0


def test_every_variable_is_listed(run):
    listed = json.loads(run("config", "env", "--json").stdout)
    text = run("config", "env").stdout

    assert [row["env"] for row in listed] == [spec.env for spec in Settings.specs()]
    assert all(spec.env in text for spec in Settings.specs())


def test_every_metric_is_listed(run):
    listed = json.loads(run("metrics", "list", "--json").stdout)
    text = run("metrics", "list").stdout

    assert [row["name"] for row in listed] == [spec.name for spec in CATALOGUE]
    assert all(spec.name in text for spec in CATALOGUE)
