"""Folders of many rules, as a SOC has them."""

from __future__ import annotations

from pathlib import Path

from pipeline.kql import FieldTable
from pipeline.rules import RuleSet, builtin_path, load_rules
from tests.calls import calls_of

FIELDS = FieldTable.builtin()


def folder_of(directory: Path, count: int) -> Path:
    """Write so many rules, each with a query of its own, into a new folder."""
    (text, *_) = [path.read_text() for path in sorted(builtin_path().glob("*imageload.toml"))]
    rule = text.partition("[[tests]]")[0]
    directory.mkdir()
    for number in range(count):
        changed = rule.replace("852c1f19-", f"{number:08x}-").replace("Lenovo", f"Vendor{number}")
        (directory / f"{number}.toml").write_text(changed)
    return directory


def loaded(folder: Path) -> RuleSet:
    found = load_rules([folder])
    ruleset, issues = RuleSet.compile(found.rules, FIELDS)
    assert (found.issues, issues) == ((), ())
    return ruleset


def test_rules_with_queries_of_their_own_have_histories_of_their_own(tmp_path: Path):
    ruleset = loaded(folder_of(tmp_path / "rules", 50))

    assert len(ruleset.runnable) == 50
    assert len({compiled.history_id for compiled in ruleset.rules}) == 50


def test_a_rule_costs_as_much_among_many_as_among_few(tmp_path: Path):
    few, many = folder_of(tmp_path / "few", 5), folder_of(tmp_path / "many", 40)
    loaded(few)  # what is made once is made

    of_few, of_many = calls_of(lambda: loaded(few)), calls_of(lambda: loaded(many))

    assert of_many < 8 * of_few * 1.02
