"""Rules: reading them from files, compiling them, and running their own tests.

The only I/O here is reading rule files, and nothing reads a clock.
"""

from __future__ import annotations

from pipeline.rules.compiled import CompiledRule
from pipeline.rules.issues import ISSUE_CODES, Issue, IssueSeverity
from pipeline.rules.load import LoadResult, builtin_path, load_rules
from pipeline.rules.model import (
    NewTerms,
    Rule,
    RuleTest,
    RuleType,
    Severity,
    Technique,
    Threat,
)
from pipeline.rules.parse import parse_rule
from pipeline.rules.rule_tests import TestResult, run_tests
from pipeline.rules.ruleset import RuleSet

__all__ = [
    "ISSUE_CODES",
    "CompiledRule",
    "Issue",
    "IssueSeverity",
    "LoadResult",
    "NewTerms",
    "Rule",
    "RuleSet",
    "RuleTest",
    "RuleType",
    "Severity",
    "Technique",
    "TestResult",
    "Threat",
    "builtin_path",
    "load_rules",
    "parse_rule",
    "run_tests",
]
