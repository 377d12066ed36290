"""What a check of rules finds: a code, a severity, the place, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

IssueSeverity: TypeAlias = Literal["error", "warning", "info"]
"""``error``: the rule or exception is not used. ``warning``: it is loaded, but does not do what its
author wrote. ``info``: the rule works as written, at a cost worth knowing."""

ISSUE_CODES: Mapping[str, str] = MappingProxyType(
    {
        "unreadable": "the file or folder cannot be read, or is not UTF-8",
        "too_large": "the file is larger than a rule file may be",
        "toml_syntax": "the file is not TOML",
        "duplicate_key": "a key or table occurs twice in one file",
        "no_rule": "the file has no [rule] table",
        "no_rules": "the folder contains no rule file",
        "unknown_key": "a key that neither the public layout nor firstseen knows",
        "missing_key": "a key that a rule of this type must have",
        "wrong_type": "a value of the wrong type for its key",
        "bad_value": "a value out of range or in the wrong form",
        "history_window": "the history does not begin before the searched interval",
        "duplicate_rule_id": "a rule loaded earlier has the same rule_id",
        "unknown_rule": "an exception to a rule that is not loaded",
        "excepts_all": "an exception that every event satisfies",
        "unsupported_exception": "an exception of a kind that firstseen cannot evaluate",
        "not_applied": "a key that changes what Kibana does, but not what firstseen does",
        "query_syntax": "the query is not KQL",
        "query_type": "the query compares a field with a literal that its type refuses",
        "query_limit": "the query is nested too deep or has too many clauses",
        "unsupported_filter": "a Kibana filter that firstseen cannot evaluate",
        "new_terms_unmapped": "a new-terms field without a type: the rule can never alert",
        "new_terms_type": "a new-terms field of a type without terms, such as analysed text",
        "unmapped_field": (
            "a clause on a field without a type: never true; an exception may not negate it"
        ),
        "no_literal": "no text occurs in every matching event: records cannot be skipped early",
        "reads_any_field": "the query reads any field: verdicts on like events are not reused",
    }
)
"""Every code that an issue may have, with its meaning. Codes are stable, since scripts rely on
them."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding.

    Attributes:
        code: a key of `ISSUE_CODES`.
        severity: see `IssueSeverity`.
        message: what is wrong, with the value if there is one.
        path: the rule file; None for a rule that is not from a file.
        line: the 1-based line in that file; None if there is no particular line.
        rule_id: the rule's id, if known.
        hint: what to write instead.
    """

    code: str
    severity: IssueSeverity
    message: str
    path: Path | None = None
    line: int | None = None
    rule_id: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        """Return ``path:line: severity[code]: message``, and the hint."""
        place = "" if self.path is None else f"{self.path}:"
        if self.line is not None:
            place += f"{self.line}:"
        text = f"{place}{' ' if place else ''}{self.severity}[{self.code}]: {self.message}"
        if self.hint is None:
            return text
        # In a message that ends with a caret line, nothing may follow on that line.
        return f"{text}\nhint: {self.hint}" if "\n" in self.message else f"{text} ({self.hint})"
