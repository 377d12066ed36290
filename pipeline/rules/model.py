"""What a rule is: frozen data, as read from a rule file, without any parsing or compiling."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.rules.locate import Place, TomlSource


class RuleType(StrEnum):
    """The `type` of a rule in Elastic's public layout."""

    NEW_TERMS = "new_terms"
    QUERY = "query"
    SAVED_QUERY = "saved_query"
    THRESHOLD = "threshold"
    THREAT_MATCH = "threat_match"
    EQL = "eql"
    ESQL = "esql"
    MACHINE_LEARNING = "machine_learning"


class Severity(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Technique:
    """A MITRE ATT&CK technique or sub-technique."""

    id: str
    name: str
    reference: str
    subtechniques: tuple[Technique, ...] = ()


@dataclass(frozen=True, slots=True)
class Threat:
    """One `[[rule.threat]]` block."""

    framework: str
    tactic_id: str
    tactic_name: str
    tactic_reference: str
    techniques: tuple[Technique, ...] = ()


@dataclass(frozen=True, slots=True)
class NewTerms:
    """What is specific to a `new_terms` rule: one to three fields, and the history's length."""

    fields: tuple[str, ...]
    history_ms: int
    history_window_start: str
    """As written, e.g. ``now-14d``."""


@dataclass(frozen=True, slots=True)
class RuleTest:
    """One `[[tests]]` block: a sequence of events, and the expected result of each.

    ``expect`` holds one word for each event: ``alert`` (a match with a new tuple, or any match of a
    `query` rule), ``known`` (a match whose tuples are all known) or ``no_match`` (no match, or one
    without a tuple).
    """

    name: str
    events: tuple[dict[str, Any], ...]
    expect: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class ExceptionItem:
    """Events of which some rules raise no alert: those that satisfy either a query or a filter.

    Attributes:
        name: says which events these are, and why they do no harm.
        rule_ids: the rules that it applies to.
        query: the KQL query, if it is one.
        filter: the Kibana filter, if it is one.
        list_id: the id of the exception list that it is from, if any.
        path: the file that it was read from.
        place: the table in that file.
        source: the file's text, so that a later finding can name its line.
    """

    name: str
    rule_ids: tuple[str, ...]
    query: str | None = None
    filter: dict[str, Any] | None = None
    list_id: str | None = None
    path: Path | None = None
    place: Place = ()
    source: TomlSource | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """A validated rule. Durations are milliseconds."""

    rule_id: str
    name: str
    description: str
    type: RuleType
    version: int
    severity: Severity
    risk_score: int
    language: str = "kuery"
    query: str | None = None
    filters: tuple[dict[str, Any], ...] = ()
    new_terms: NewTerms | None = None
    index: tuple[str, ...] = ()
    interval_ms: int = 300_000
    from_ms: int = 360_000
    max_signals: int = 100
    timestamp_override: str | None = None
    timestamp_override_fallback_disabled: bool = False
    enabled: bool = True
    author: tuple[str, ...] = ()
    license: str | None = None
    tags: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    false_positives: tuple[str, ...] = ()
    note: str | None = None
    setup: str | None = None
    building_block_type: str | None = None
    threat: tuple[Threat, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    """Known keys of the public layout that firstseen keeps but does not apply."""
    tests: tuple[RuleTest, ...] = ()
    exceptions: tuple[ExceptionItem, ...] = ()
    """From files of their own: see `pipeline.rules.exceptions`."""
    path: Path | None = None
    line: int = 1
    source: TomlSource | None = field(default=None, compare=False, repr=False)
    """The text that it was read from, so that a later finding can name its line."""

    @property
    def searched_index(self) -> tuple[str, ...]:
        """The index patterns that the rule is narrowed to; empty if it judges every event.

        To Kibana, a data view takes the place of `index` (getInputIndex). Its patterns are not
        known.
        """
        return () if self.extra.get("data_view_id") else self.index
