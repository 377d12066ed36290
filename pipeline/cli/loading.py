"""Loads rules and field types for a command, and reports problems on stderr."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.cli.exits import say_error, say_warning
from pipeline.errors import FieldTypesError, RuleError
from pipeline.kql import FieldTable
from pipeline.rules import Issue, Rule, RuleSet, load_rules

_NAMED_RULES = 5


def load_fields(path: Path | None) -> FieldTable:
    """Return the built-in field types, extended by those in a JSON file.

    Raises:
        FieldTypesError: the file cannot be read or does not hold field types.
    """
    table = FieldTable.builtin()
    if path is None:
        return table
    try:
        mapping = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise FieldTypesError(f"cannot read the field types {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FieldTypesError(f"{path}: this is not JSON: {error}") from error
    if not isinstance(mapping, dict):
        raise FieldTypesError(f"{path}: field types are a JSON object of name and type")
    try:
        return table.extend(mapping)
    except FieldTypesError as error:
        raise FieldTypesError(f"{path}: {error}") from error


class LoadedRules(NamedTuple):
    """All rules that were read, those that can be used, and what there is to report about them."""

    rules: tuple[Rule, ...]
    ruleset: RuleSet
    issues: tuple[Issue, ...]

    @property
    def errors(self) -> tuple[Issue, ...]:
        """The issues because of which a rule or an exception is not used."""
        return tuple(issue for issue in self.issues if issue.severity == "error")

    @property
    def invalid(self) -> int:
        """How many rules (or files that should hold one, or exceptions) have an error."""
        return len({(issue.path, issue.rule_id) for issue in self.errors})

    @property
    def skipped(self) -> dict[str, list[str]]:
        """The ids of the rules that are not run, by reason."""
        by_reason: dict[str, list[str]] = {}
        for rule, reason in self.ruleset.skipped:
            by_reason.setdefault(reason, []).append(rule.rule_id)
        return by_reason


def read_rules(paths: Sequence[Path], fields: FieldTable) -> LoadedRules:
    """Load and compile rules without reporting anything.

    Args:
        paths: rule files and folders; none for the built-in rules.
        fields: the types of the fields that they name.
    """
    loaded = load_rules(list(paths) or None)
    ruleset, issues = RuleSet.compile(loaded.rules, fields, loaded.drafts)
    return LoadedRules(loaded.rules, ruleset, (*loaded.issues, *issues))


def load_rules_to_run(paths: Sequence[Path], fields: FieldTable) -> RuleSet:
    """Load rules; report on stderr which are not run, and why.

    Raises:
        RuleError: none of them can be run.
    """
    loaded = read_rules(paths, fields)
    report_issues(loaded.issues)
    for reason, ids in loaded.skipped.items():
        say_warning(_skipped_text(reason, ids))
    check_runnable(loaded.ruleset)
    return loaded.ruleset


def load_rules_to_judge(paths: Sequence[Path], fields: FieldTable) -> RuleSet:
    """Load rules of which only the queries are used; report on stderr which have errors.

    Raises:
        RuleError: none of them can be judged.
    """
    loaded = read_rules(paths, fields)
    report_issues(loaded.issues)
    if not loaded.ruleset.rules:
        raise RuleError("no rule can be judged: `firstseen rules list` says why")
    return loaded.ruleset


def check_runnable(ruleset: RuleSet) -> None:
    """Raise RuleError if a rule set has nothing to run."""
    if not ruleset.runnable:
        raise RuleError("no rule can be run: `firstseen rules list` says why")


def _skipped_text(reason: str, ids: Sequence[str]) -> str:
    """Return one line for all rules that are not run for the same reason."""
    named = ", ".join(ids[:_NAMED_RULES])
    more = f" and {len(ids) - _NAMED_RULES} more" if len(ids) > _NAMED_RULES else ""
    return f"not run: {named}{more}: {reason}"


def report_issues(issues: Sequence[Issue]) -> None:
    """Write errors and warnings to stderr; mere information is left to `rules check`."""
    for issue in issues:
        if issue.severity == "error":
            say_error(f"not used: {issue}")
        elif issue.severity == "warning":
            say_warning(str(issue))
