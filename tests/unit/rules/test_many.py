"""A folder as large as a SOC's: 700 rules."""

from __future__ import annotations

import time

import pytest

from pipeline.kql import FieldTable
from pipeline.rules import RuleSet, builtin_path, load_rules

COUNT = 700


@pytest.fixture
def folder(tmp_path):
    (text, *_) = [path.read_text() for path in sorted(builtin_path().glob("*imageload.toml"))]
    rule = text.partition("[[tests]]")[0]
    for number in range(COUNT):
        changed = rule.replace("852c1f19-", f"{number:08x}-").replace("Lenovo", f"Vendor{number}")
        (tmp_path / f"{number}.toml").write_text(changed)
    return tmp_path


def test_700_rules_load_and_compile_within_seconds(folder):
    fields = FieldTable.builtin()
    began = time.process_time()

    loaded = load_rules([folder])
    ruleset, issues = RuleSet.compile(loaded.rules, fields)
    seconds = time.process_time() - began

    assert (loaded.issues, issues) == ((), ())
    assert len(ruleset.runnable) == COUNT
    # About 1.5 s of one core of a small machine; the bound leaves room for one that is shared.
    assert seconds < 30
    assert len({compiled.history_id for compiled in ruleset.rules}) == COUNT
