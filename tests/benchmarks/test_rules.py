"""The generated rules are rules, and are like the published ones."""

from __future__ import annotations

from pathlib import Path

from pipeline.kql import FieldTable
from pipeline.rules import RuleSet, load_rules
from tests.benchmarks.rules import rule_text, write_rules

COUNT = 240


def test_every_generated_rule_compiles_without_a_complaint(tmp_path: Path) -> None:
    loaded = load_rules([write_rules(tmp_path / "rules", COUNT)])
    ruleset, issues = RuleSet.compile(loaded.rules, FieldTable.builtin())
    assert (loaded.issues, issues) == ((), ())
    assert len(ruleset.runnable) == COUNT


def test_the_same_number_and_seed_give_the_same_rule() -> None:
    assert rule_text(7) == rule_text(7)
    assert rule_text(7) != rule_text(7, seed=2)


def test_lists_and_negations_are_about_as_frequent_as_in_the_published_rules() -> None:
    texts = [rule_text(number) for number in range(COUNT)]
    lists = sum(" or " in text for text in texts) / COUNT
    negations = sum("not " in text for text in texts) / COUNT
    assert 0.6 <= lists <= 0.95  # 185 of 241
    assert 0.4 <= negations <= 0.7  # 130 of 241


def test_with_mixed_indices_few_rules_apply_to_library_events(tmp_path: Path) -> None:
    loaded = load_rules([write_rules(tmp_path / "rules", COUNT, indices="mixed")])
    ruleset, _ = RuleSet.compile(loaded.rules, FieldTable.builtin())
    index = "logs-endpoint.events.library-default"
    applicable = sum(rule.accepts_index(index) for rule in ruleset.runnable)
    assert 0.02 * COUNT <= applicable <= 0.2 * COUNT
