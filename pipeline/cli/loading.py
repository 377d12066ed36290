"""Rules and field types from the flags of a command, with what is wrong said on stderr."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.cli.exits import say_error, say_warning
from pipeline.errors import FieldTypesError, RuleError
from pipeline.kql import FieldTable
from pipeline.rules import Issue, RuleSet, load_rules


def load_fields(path: Path | None) -> FieldTable:
    """Return the built-in field types, extended by those of a JSON file.

    Raises:
        FieldTypesError: the file cannot be read or does not hold field types.
    """
    table = FieldTable.builtin()
    if path is None:
        return table
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FieldTypesError(f"cannot read the field types {path}: {error.strerror}") from error
    except ValueError as error:
        raise FieldTypesError(f"{path}: this is not JSON: {error}") from error
    if not isinstance(mapping, dict):
        raise FieldTypesError(f"{path}: field types are a JSON object of name and type")
    try:
        return table.extend(mapping)
    except FieldTypesError as error:
        raise FieldTypesError(f"{path}: {error}") from error


def load_ruleset(paths: Sequence[Path], fields: FieldTable) -> RuleSet:
    """Load and compile rules; each one that cannot be used is reported, the rest is returned.

    Args:
        paths: rule files and folders; none for the built-in rules.
        fields: types of the fields that they name.

    Raises:
        RuleError: none of them can be used.
    """
    loaded = load_rules(list(paths) or None)
    ruleset, issues = RuleSet.compile(loaded.rules, fields)
    report_issues([*loaded.issues, *issues])
    if not ruleset.rules:
        raise RuleError("no rule can be used: `firstseen rules check` says why")
    return ruleset


def report_issues(issues: Sequence[Issue]) -> None:
    """Write errors and warnings to stderr; what is only worth knowing is left to `rules check`."""
    for issue in issues:
        if issue.severity == "error":
            say_error(f"this rule is not used: {issue}")
        elif issue.severity == "warning":
            say_warning(str(issue))
