"""Formats a rule: as a page for people, as a document for machines."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from pipeline.rules import Rule, Technique

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


def rule_text(rule: Rule) -> str:
    """Return everything about a rule that an analyst asks for."""
    lines = [rule.name, "=" * len(rule.name)]
    lines += [f"{name + ':':<16}{value}" for name, value in _facts(rule) if value]
    sections = {
        "Description": rule.description.strip(),
        "Query": textwrap.dedent(rule.query or "").strip(),
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
                "path": str(item.path),
            }
            for item in rule.exceptions
        ],
        "new_terms": (
            {"fields": list(terms.fields), "history_window_start": terms.history_window_start}
            if terms
            else None
        ),
        "index": list(rule.index),
        "interval": _duration(rule.interval_ms),
        "from": f"now-{_duration(rule.from_ms)}",
        "max_signals": rule.max_signals,
        "timestamp_override": rule.timestamp_override,
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
        yield "History", _duration(rule.new_terms.history_ms)
    yield "Index", ", ".join(rule.index)
    limit = f"{rule.max_signals} alerts in {_duration(rule.interval_ms)}"
    yield "At most", limit
    yield "Time of events", rule.timestamp_override or "@timestamp"
    yield "Tags", ", ".join(rule.tags)
    yield "Author", ", ".join(rule.author)
    yield "License", rule.license or ""
    yield "Tests", str(len(rule.tests))
    yield "File", str(rule.path or "")


def _exception_lines(rule: Rule) -> Iterator[str]:
    for item in rule.exceptions:
        yield item.name
        covered = json.dumps(item.filter) if item.query is None else item.query
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


def _duration(milliseconds: int) -> str:
    for unit, size in _UNITS:
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"
