"""Turns one parsed rule file (a mapping from ``tomllib``) into a `Rule`, or a list of issues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.rules.durations import parse_interval, parse_relative
from pipeline.rules.issues import Issue
from pipeline.rules.keys import FILE_KEYS, RULE_KEYS
from pipeline.rules.locate import Place, TomlSource
from pipeline.rules.model import NewTerms, Rule, RuleTest, RuleType, Severity, Technique, Threat
from pipeline.rules.parse_tests import build_tests
from pipeline.rules.schema import Notes, check_keys, dotted, right_values

_RULE: Place = ("rule",)
_LANGUAGES_OF_TYPE: Mapping[RuleType, tuple[str, ...]] = {
    RuleType.NEW_TERMS: ("kuery", "lucene"),
    RuleType.QUERY: ("kuery", "lucene"),
    RuleType.SAVED_QUERY: ("kuery", "lucene"),
    RuleType.THRESHOLD: ("kuery", "lucene"),
    RuleType.THREAT_MATCH: ("kuery", "lucene"),
    RuleType.EQL: ("eql",),
    RuleType.ESQL: ("esql",),
    RuleType.MACHINE_LEARNING: ("kuery", "lucene"),
}
_WITHOUT_QUERY = frozenset({RuleType.SAVED_QUERY, RuleType.MACHINE_LEARNING})
_NOT_APPLIED = {
    "alert_suppression": "its alerts are not grouped here",
    "data_view_id": "its patterns are known to Kibana alone: the rule judges every event",
    "risk_score_mapping": "all its alerts have the rule's risk score",
    "rule_name_override": "all its alerts have the rule's name",
    "severity_mapping": "all its alerts have the rule's severity",
}
_EXCEPTIONS = "exceptions"
_FLAT_NEW_TERMS = ("new_terms_fields", "history_window_start")
_DEFAULT_FROM = "now-6m"
_DEFAULT_INTERVAL = "5m"


def parse_rule(
    document: Mapping[Any, Any], *, path: Path | None = None, source: TomlSource | None = None
) -> tuple[Rule | None, tuple[Issue, ...]]:
    """Return the rule of one file, and everything there is to report about it.

    Args:
        document: the file as a mapping. Any mapping is accepted; none makes this raise.
        path: the file, for the issues and for the rule.
        source: its text, to find lines in.

    Returns:
        The rule, or None if one of the issues is an error; and the issues.
    """
    notes = Notes(path=path, source=source)
    table = document.get("rule")
    if not isinstance(table, Mapping):
        notes.add("no_rule", _RULE, "the file has no [rule] table")
        return None, tuple(notes.issues)
    rule_id = table.get("rule_id")
    notes.rule_id = rule_id if isinstance(rule_id, str) and rule_id else None
    check_keys({key: document[key] for key in document if key != _EXCEPTIONS}, FILE_KEYS, (), notes)
    if _EXCEPTIONS in document:
        notes.add(
            "unknown_key",
            (_EXCEPTIONS,),
            "[[exceptions]] in the file of a rule",
            hint="write them in a file of their own",
        )
    # One mistake hides no other: what is right is checked further.
    right = right_values(table, RULE_KEYS) if notes.has_errors else table
    tests: tuple[RuleTest, ...] = ()
    if "type" in right:
        kind = RuleType(right["type"])
        _check_by_type(table, right, kind, notes)
        if "tests" in right_values(document, FILE_KEYS):
            tests = build_tests(document["tests"], kind, notes)
    if notes.has_errors:
        return None, tuple(notes.issues)
    return _build(document, table, tests, notes), tuple(notes.issues)


def _check_by_type(
    table: Mapping[str, Any], right: Mapping[str, Any], kind: RuleType, notes: Notes
) -> None:
    """Check what the rule's type requires of its keys; `right` are those with a right value."""
    if kind not in _WITHOUT_QUERY and "query" not in table:
        notes.add("missing_key", _RULE, f"rule.query is missing: a {kind} rule has one")
    languages = _LANGUAGES_OF_TYPE[kind]
    if right.get("language", languages[0]) not in languages:
        notes.add(
            "bad_value",
            (*_RULE, "language"),
            f"rule.language: a {kind} rule is written in {' or '.join(languages)},"
            f" not {right['language']!r}",
        )
    _check_new_terms(table, right, kind, notes)
    for key, effect in _NOT_APPLIED.items():
        if right.get(key):
            notes.add(
                "not_applied",
                (*_RULE, key),
                f"rule.{key} is kept, not applied: {effect}",
                severity="warning",
            )


def _check_new_terms(
    table: Mapping[str, Any], right: Mapping[str, Any], kind: RuleType, notes: Notes
) -> None:
    written = [key for key in ("new_terms", *_FLAT_NEW_TERMS) if key in table]
    if kind is not RuleType.NEW_TERMS:
        for key in written:
            notes.add("bad_value", (*_RULE, key), f"rule.{key} is of no use to a {kind} rule")
        return
    if written in (["new_terms"], list(_FLAT_NEW_TERMS)):
        if all(key in right for key in (*written, "from") if key in table):
            _check_history(table, notes)
    elif "new_terms" in written:
        notes.add(
            "bad_value",
            (*_RULE, written[1]),
            f"rule.{written[1]} says again what rule.new_terms says",
        )
    else:
        notes.add(
            "missing_key",
            _RULE,
            "rule.new_terms is missing: a new_terms rule needs its fields and its history",
        )


def _check_history(table: Mapping[str, Any], notes: Notes) -> None:
    _, start, place = _new_terms(table)
    searched = str(table.get("from", _DEFAULT_FROM))
    if (parse_relative(start) or 0) <= (parse_relative(searched) or 0):
        notes.add(
            "history_window",
            place,
            f"{dotted(place)}: the history begins at {start}, which is not before"
            f" the searched interval's start {searched}",
            hint="write a longer history, e.g. now-14d",
        )


def _new_terms(table: Mapping[str, Any]) -> tuple[Sequence[str], str, Place]:
    """Return the fields, the history's start as written, and the place of that start."""
    if "new_terms" not in table:
        place: Place = (*_RULE, "history_window_start")
        return table["new_terms_fields"], table["history_window_start"], place
    block = table["new_terms"]
    place = (*_RULE, "new_terms", "history_window_start", 0, "value")
    return block["value"], block["history_window_start"][0]["value"], place


def _build(
    document: Mapping[str, Any],
    table: Mapping[str, Any],
    tests: tuple[RuleTest, ...],
    notes: Notes,
) -> Rule:
    """Return the rule of a table that has been checked."""
    kind = RuleType(table["type"])
    return Rule(
        rule_id=table["rule_id"],
        name=table["name"],
        description=table["description"],
        type=kind,
        version=table.get("version", 1),
        severity=Severity(table["severity"]),
        risk_score=table["risk_score"],
        language=table.get("language", _LANGUAGES_OF_TYPE[kind][0]),
        query=table.get("query"),
        filters=tuple(table.get("filters", ())),
        new_terms=_build_new_terms(table) if kind is RuleType.NEW_TERMS else None,
        interval_ms=parse_interval(table.get("interval", _DEFAULT_INTERVAL)) or 0,
        from_ms=parse_relative(table.get("from", _DEFAULT_FROM)) or 0,
        max_signals=table.get("max_signals", 100),
        timestamp_override=table.get("timestamp_override"),
        timestamp_override_fallback_disabled=table.get(
            "timestamp_override_fallback_disabled", False
        ),
        enabled=table.get("enabled", True),
        license=table.get("license"),
        note=table.get("note"),
        setup=table.get("setup"),
        building_block_type=table.get("building_block_type"),
        threat=tuple(_build_threat(block) for block in table.get("threat", ())),
        metadata=dict(document.get("metadata", {})),
        extra=_extra(document, table),
        tests=tests,
        exceptions=(),  # they are in files of their own
        path=notes.path,
        line=notes.source.header_line("rule") if notes.source is not None else 1,
        source=notes.source,
        **_lists(table),
    )


def _lists(table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    names = ("index", "author", "tags", "references", "false_positives")
    return {name: tuple(table.get(name, ())) for name in names}


def _build_new_terms(table: Mapping[str, Any]) -> NewTerms:
    fields, start, _ = _new_terms(table)
    return NewTerms(tuple(fields), parse_relative(start) or 0, start)


def _build_threat(block: Mapping[str, Any]) -> Threat:
    tactic = block["tactic"]
    return Threat(
        framework=block["framework"],
        tactic_id=tactic["id"],
        tactic_name=tactic["name"],
        tactic_reference=tactic["reference"],
        techniques=tuple(_build_technique(entry) for entry in block.get("technique", ())),
    )


def _build_technique(entry: Mapping[str, Any]) -> Technique:
    return Technique(
        id=entry["id"],
        name=entry["name"],
        reference=entry["reference"],
        subtechniques=tuple(_build_technique(sub) for sub in entry.get("subtechnique", ())),
    )


def _extra(document: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys without effect, kept as written: ``rules show`` can print them."""
    extra = {name: value for name, value in table.items() if RULE_KEYS[name].kept}
    if "transform" in document:
        extra["transform"] = document["transform"]
    return extra
