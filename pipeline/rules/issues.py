"""What a check of rules finds: a code, how grave it is, where, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

IssueSeverity: TypeAlias = Literal["error", "warning", "info"]
"""``error``: the rule is not used. ``warning``: the rule is loaded, but what its author wrote and
what it will do differ. ``info``: works as written, at a cost worth knowing.
"""

ISSUE_CODES: Mapping[str, str] = MappingProxyType(
    {
        "unreadable": "the file or folder cannot be read, or is not UTF-8",
        "too_large": "the file is larger than a rule file may be",
        "toml_syntax": "the file is not TOML",
        "duplicate_key": "a key or table stands twice in one file",
        "no_rule": "the file has no [rule] table",
        "no_rules": "the folder holds no rule file",
        "unknown_key": "a key that neither the public layout nor firstseen knows",
        "missing_key": "a key that a rule of this type must have",
        "wrong_type": "a value of another type than its key takes",
        "bad_value": "a value out of its range or form",
        "history_window": "the history does not begin before the searched interval",
        "duplicate_rule_id": "another rule loaded earlier has this rule_id",
        "not_applied": "a key that changes what Kibana does and that firstseen does not act on",
        "query_syntax": "the query is not KQL",
        "query_type": "the query compares a field with a literal its type refuses",
        "query_limit": "the query is nested too deep or has too many clauses",
        "unsupported_filter": "a Kibana filter that firstseen cannot evaluate",
        "new_terms_unmapped": "a new-terms field without a type: the rule can never alert",
        "new_terms_type": "a new-terms field of a type without terms, such as analysed text",
        "unmapped_field": "the query names a field without a type: that clause is never true",
        "no_literal": "no text stands in every event that matches: records cannot be skipped early",
        "reads_any_field": "the query reads any field: verdicts on like events are not remembered",
    }
)
"""Every code an issue may carry, with its meaning. Codes are stable: scripts look at them."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding.

    Attributes:
        code: a key of `ISSUE_CODES`.
        severity: see `IssueSeverity`.
        message: what is wrong, with the value where there is one.
        path: the rule file, or None for a rule that came from no file.
        line: 1-based line in that file, or None where no line can be named.
        rule_id: the rule's id, where it is known.
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
        """``path:line: severity[code]: message``, and the hint."""
        place = "" if self.path is None else f"{self.path}:"
        if self.line is not None:
            place += f"{self.line}:"
        told = f"{place}{' ' if place else ''}{self.severity}[{self.code}]: {self.message}"
        if self.hint is None:
            return told
        # A message with a caret line keeps its last line to itself.
        return f"{told}\nhint: {self.hint}" if "\n" in self.message else f"{told} ({self.hint})"
