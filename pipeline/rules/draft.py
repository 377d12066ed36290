"""What can be compiled of a rule whose keys have errors, so that one run reports all mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.rules.keys import NEW_TERMS_KEYS, RULE_KEYS
from pipeline.rules.locate import TomlSource
from pipeline.rules.model import NewTerms, Rule, RuleType, Severity
from pipeline.rules.schema import right_values


def draft_of(
    document: Mapping[Any, Any], *, path: Path | None = None, source: TomlSource | None = None
) -> Rule | None:
    """Return a rule that has what is right of the query, the filters and the new-terms fields.

    It is compiled for its issues only and never runs: everything else in it is made up.

    Args:
        document: a file of which `pipeline.rules.parse.parse_rule` makes no rule.
        path: the file, for the issues.
        source: its text, to find lines in.

    Returns:
        The draft, or None if nothing says in which language the query is.
    """
    table = document.get("rule")
    if not isinstance(table, Mapping):
        return None
    right = right_values(table, RULE_KEYS)
    if "type" not in right or ("language" in table and "language" not in right):
        return None
    rule_id = table.get("rule_id")
    return Rule(
        rule_id=rule_id if isinstance(rule_id, str) else "",
        name="",
        description="",
        type=RuleType(right["type"]),
        version=1,
        severity=Severity.LOW,
        risk_score=0,
        language=right.get("language", "kuery"),
        query=right.get("query"),
        filters=tuple(right.get("filters", ())),
        new_terms=_new_terms(right, table.get("new_terms")),
        path=path,
        source=source,
    )


def _new_terms(right: Mapping[str, Any], block: Any) -> NewTerms | None:
    fields = right.get("new_terms_fields")
    if fields is None and isinstance(block, Mapping):
        fields = right_values(block, NEW_TERMS_KEYS).get("value")
    return None if fields is None else NewTerms(tuple(fields), 0, "")
