"""Formats a rule: as a page for people, as a document for machines."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from pipeline.engine.durations import duration_text
from pipeline.rules import Rule, Technique


def rule_text(rule: Rule) -> str:
    """Return everything about a rule that an analyst asks for."""
    lines = [rule.name, "=" * len(rule.name)]
    lines += [f"{name + ':':<16}{value}" for name, value in _facts(rule) if value]
    sections = {
        "Description": rule.description.strip(),
        "Query": textwrap.dedent(rule.query or "").strip(),
        "Filters": "\n".join(map(_compact_json, rule.filters)),
        "Exceptions": "\n".join(_exception_lines(rule)),
        "Threat": "\n".join(_threat_lines(rule)),
        "References": "\n".join(rule.references),
        "False positives": "\n".join(rule.false_positives),
        "Setup": (rule.setup or "").strip(),
        "Investigation guide": (rule.note or "").strip(),
    }
    for title, body in sections.items():
        if body:
            lines += ["", title, "-" * len(title), body]
    return "\n".join(lines)


def rule_document(rule: Rule) -> dict[str, Any]:
    """Return a rule as plain data."""
    terms = rule.new_terms
    return {
        "rule_id": rule.rule_id,
        "name": rule.name,
        "description": rule.description,
        "type": rule.type.value,
        "version": rule.version,
        "severity": rule.severity.value,
        "risk_score": rule.risk_score,
        "enabled": rule.enabled,
        "language": rule.language,
        "query": rule.query,
        "filters": list(rule.filters),
        "exceptions": [
            {
                "name": item.name,
                "query": item.query,
                "filter": item.filter,
                "path": str(item.path) if item.path else None,
            }
            for item in rule.exceptions
        ],
        "new_terms": (
            {"fields": list(terms.fields), "history_window_start": terms.history_window_start}
            if terms
            else None
        ),
        "index": list(rule.index),
        "data_view_id": rule.extra.get("data_view_id"),
        "interval": duration_text(rule.interval_ms, short=True),
        "from": f"now-{duration_text(rule.from_ms, short=True)}" if rule.from_ms else "now",
        "max_signals": rule.max_signals,
        "timestamp_override": rule.timestamp_override,
        "timestamp_override_fallback_disabled": rule.timestamp_override_fallback_disabled,
        "threat": [
            {
                "framework": threat.framework,
                "tactic": {
                    "id": threat.tactic_id,
                    "name": threat.tactic_name,
                    "reference": threat.tactic_reference,
                },
                "techniques": [_technique_document(each) for each in threat.techniques],
            }
            for threat in rule.threat
        ],
        "tags": list(rule.tags),
        "author": list(rule.author),
        "license": rule.license,
        "references": list(rule.references),
        "false_positives": list(rule.false_positives),
        "setup": rule.setup,
        "note": rule.note,
        "tests": [test.name for test in rule.tests],
        "path": str(rule.path) if rule.path else None,
    }


def _facts(rule: Rule) -> Iterator[tuple[str, str]]:
    yield "Rule id", rule.rule_id
    yield "Version", str(rule.version)
    yield "Type", rule.type.value + ("" if rule.enabled else " (not enabled)")
    yield "Severity", f"{rule.severity.value}, risk score {rule.risk_score}"
    if rule.new_terms:
        yield "New terms", ", ".join(rule.new_terms.fields)
        yield "History", duration_text(rule.new_terms.history_ms, short=True)
    yield "Index", _index(rule)
    yield "At most", f"{rule.max_signals} alerts in {duration_text(rule.interval_ms, short=True)}"
    yield "Time of events", _time_field(rule)
    yield "Tags", ", ".join(rule.tags)
    yield "Author", ", ".join(rule.author)
    yield "License", rule.license or ""
    yield "Tests", str(len(rule.tests))
    yield "File", str(rule.path or "")


def _index(rule: Rule) -> str:
    if rule.index and not rule.searched_index:
        return f"any: {', '.join(rule.index)} is set aside by data_view_id"
    return ", ".join(rule.searched_index) or "any"


def _time_field(rule: Rule) -> str:
    if rule.timestamp_override is None:
        return "@timestamp"
    fallback = "" if rule.timestamp_override_fallback_disabled else ", otherwise @timestamp"
    return f"{rule.timestamp_override}{fallback}"


def _compact_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)  # TOML has dates, JSON has none


def _exception_lines(rule: Rule) -> Iterator[str]:
    for item in rule.exceptions:
        yield item.name
        covered = _compact_json(item.filter) if item.query is None else item.query
        yield textwrap.indent(textwrap.dedent(covered).strip(), "  ")


def _threat_lines(rule: Rule) -> Iterator[str]:
    for threat in rule.threat:
        yield f"{threat.tactic_id} {threat.tactic_name}  {threat.tactic_reference}"
        for technique in threat.techniques:
            yield from _technique_lines(technique, "  ")


def _technique_lines(technique: Technique, indent: str) -> Iterator[str]:
    yield f"{indent}{technique.id} {technique.name}  {technique.reference}"
    for sub in technique.subtechniques:
        yield from _technique_lines(sub, indent + "  ")


def _technique_document(technique: Technique) -> dict[str, Any]:
    return {
        "id": technique.id,
        "name": technique.name,
        "reference": technique.reference,
        "subtechniques": [_technique_document(sub) for sub in technique.subtechniques],
    }
