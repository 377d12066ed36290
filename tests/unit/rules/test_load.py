from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.rules.load import MAX_FILE_BYTES, builtin_path, load_rules
from tests.rules import BUILTIN_RULE

RULE = """\
[rule]
rule_id = "{rule_id}"
name = "A rule"
description = "What it finds."
type = "query"
severity = "low"
risk_score = 21
query = "host.id:*"
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def rule_ids(result):
    return [rule.rule_id for rule in result.rules]


def found(result):
    return [(issue.code, issue.path.name, issue.line) for issue in result.issues]


def test_without_a_path_the_built_in_rules_are_read():
    result = load_rules(None)

    assert result.issues == ()
    assert BUILTIN_RULE in rule_ids(result)
    assert load_rules([]) == result
    assert load_rules([builtin_path()]) == result


def test_a_folder_is_read_at_any_depth_by_name(tmp_path):
    write(tmp_path / "b.toml", RULE.format(rule_id="b"))
    write(tmp_path / "a" / "c.toml", RULE.format(rule_id="c"))
    write(tmp_path / "notes.md", "# not a rule")

    result = load_rules([tmp_path])

    assert rule_ids(result) == ["c", "b"]
    assert result.issues == ()


def test_one_bad_file_hides_none_of_the_others(tmp_path):
    write(tmp_path / "1.toml", RULE.format(rule_id="one"))
    write(tmp_path / "2.toml", "[rule\n")
    write(tmp_path / "3.toml", RULE.format(rule_id="three") + "max_signal = 1\n")
    write(tmp_path / "4.toml", "a = " + "[" * 100_000)
    (tmp_path / "5.toml").write_bytes(b"[rule]\nname = '\xff'\n")
    write(tmp_path / "6.toml", "# " + "x" * MAX_FILE_BYTES)
    write(tmp_path / "7.toml", "")
    write(tmp_path / "8.toml", RULE.format(rule_id="eight"))

    result = load_rules([tmp_path])

    assert rule_ids(result) == ["one", "eight"]
    assert found(result) == [
        ("toml_syntax", "2.toml", 1),
        ("unknown_key", "3.toml", 9),
        ("toml_syntax", "4.toml", 1),
        ("unreadable", "5.toml", 2),
        ("too_large", "6.toml", None),
        ("no_rule", "7.toml", 1),
    ]


def test_a_key_written_twice_is_an_error_with_its_line(tmp_path):
    path = write(tmp_path / "r.toml", RULE.format(rule_id="r") + 'severity = "high"\n')

    (issue,) = load_rules([path]).issues

    assert (issue.code, issue.line) == ("duplicate_key", 9)
    assert issue.message == "rule.severity stands twice, first in line 6"


def test_of_two_rules_with_one_id_the_first_is_kept(tmp_path):
    first = write(tmp_path / "a.toml", RULE.format(rule_id="same"))
    write(tmp_path / "b.toml", "\n" + RULE.format(rule_id="same"))

    result = load_rules([tmp_path])

    assert [rule.path for rule in result.rules] == [first]
    assert found(result) == [("duplicate_rule_id", "b.toml", 3)]
    assert str(first) in result.issues[0].message


def test_a_file_named_twice_is_read_once(tmp_path):
    path = write(tmp_path / "a.toml", RULE.format(rule_id="a"))

    result = load_rules([path, tmp_path, path])

    assert rule_ids(result) == ["a"]
    assert result.issues == ()


def test_a_path_that_leads_nowhere_is_an_issue_and_no_exception(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()

    result = load_rules([tmp_path / "missing", empty])

    assert found(result) == [("unreadable", "missing", None), ("no_rules", "empty", None)]


def test_what_cannot_be_looked_at_in_a_folder_is_an_issue_and_hides_nothing(tmp_path):
    write(tmp_path / "a.toml", RULE.format(rule_id="a"))
    (tmp_path / "dangling.toml").symlink_to(tmp_path / "gone.toml")
    (tmp_path / "looping").symlink_to(tmp_path / "looping")
    (tmp_path / "of-another-volume").symlink_to(tmp_path / "not-mounted")

    result = load_rules([tmp_path])

    assert rule_ids(result) == ["a"]
    assert found(result) == [
        ("unreadable", "dangling.toml", None),
        ("unreadable", "looping", None),
        ("unreadable", "of-another-volume", None),
    ]


def test_links_to_folders_are_followed_once(tmp_path):
    elsewhere, rules = tmp_path / "elsewhere", tmp_path / "rules"
    for folder in (elsewhere, rules):
        folder.mkdir()
    write(elsewhere / "b.toml", RULE.format(rule_id="b"))
    (rules / "linked").symlink_to(elsewhere)
    (rules / "linked-again").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(rules)

    result = load_rules([rules])

    assert rule_ids(result) == ["b"]
    assert result.issues == ()


def test_a_volume_of_kubernetes_is_read_by_the_names_that_it_gives(tmp_path):
    """A ConfigMap's files are links into a folder whose name changes with each update."""
    version = tmp_path / "..2026_03_01_08_00_00.123"
    version.mkdir()
    write(version / "a.toml", RULE.format(rule_id="a"))
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "a.toml").symlink_to("..data/a.toml")

    result = load_rules([tmp_path])

    assert [rule.path for rule in result.rules] == [tmp_path / "a.toml"]


@pytest.mark.parametrize("prefix", ["\ufeff", ""])
def test_files_of_windows_editors_load(tmp_path, prefix):
    text = prefix + RULE.format(rule_id="w").replace("\n", "\r\n")
    path = write(tmp_path / "w.toml", text)

    assert rule_ids(load_rules([path])) == ["w"]


def test_a_file_that_cannot_be_read_is_an_issue():
    (issue,) = load_rules([Path("/proc/self/mem")]).issues

    assert issue.code == "unreadable"


def test_a_table_that_cannot_be_there_is_no_duplicate(tmp_path):
    path = write(tmp_path / "r.toml", "rule = {}\n[rule.new_terms]\n")

    assert found(load_rules([path])) == [("toml_syntax", "r.toml", 2)]


def test_an_issue_prints_as_place_severity_code_and_text(tmp_path):
    path = write(tmp_path / "r.toml", RULE.format(rule_id="r") + "max_signal = 1\n")

    (issue,) = load_rules([path]).issues

    assert str(issue) == (
        f"{path}:9: error[unknown_key]: unknown key 'max_signal' in rule (did you mean max_signals?)"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n[rule]\n" + ".".join("a" * 200_000) + " = 1", "a key of more than 32 parts"),
        ("\n\n[" + ".'x'" * 200_000 + "]", "Invalid initial character"),
        ("\n\n['x'" + ".'x'" * 200_000 + "]", "a key of more than 32 parts"),
        ("a = 1\n\nb = [{" + "c." * 400_000 + "d = 1}]", "a key of more than 32 parts"),
    ],
)
def test_a_key_of_endless_parts_is_refused_before_anybody_splits_it(tmp_path, text, message):
    (issue,) = load_rules([write(tmp_path / "r.toml", text)]).issues

    assert (issue.code, issue.line) == ("toml_syntax", 3)
    assert message in issue.message


def test_many_dots_elsewhere_are_no_key_of_many_parts(tmp_path):
    dots = ".".join("a" * 100)
    text = RULE.format(rule_id="dots") + f'note = """\n{dots} = 1\n"""\nsetup = "{dots}" # {dots}\n'

    assert rule_ids(load_rules([write(tmp_path / "r.toml", text)])) == ["dots"]


@pytest.mark.parametrize("number", ["9" * 5_000, "0x" + "f" * 5_000, "[0x" + "f" * 5_000 + "]"])
@pytest.mark.parametrize("key", ["risk_score", "version", "name", "anything"])
def test_a_number_of_thousands_of_digits_is_an_issue_and_no_exception(tmp_path, key, number):
    path = write(tmp_path / "r.toml", f"[rule]\n{key} = {number}\n")

    result = load_rules([path])

    assert result.rules == ()
    assert {issue.severity for issue in result.issues} == {"error"}


@pytest.mark.parametrize("key", ["max_signals", "version"])
def test_a_number_that_no_row_of_the_state_can_hold_is_refused(tmp_path, key):
    text = RULE.format(rule_id="r") + f"{key} = {2**64}\n"

    (issue,) = load_rules([write(tmp_path / "r.toml", text)]).issues

    assert (issue.code, issue.line) == ("bad_value", 9)
    assert "is not between 1 and 2147483647" in issue.message
