"""What an alert says of its rule: the fields ``rule``, ``threat`` and ``tags``."""

from __future__ import annotations

from typing import Any, Final

import orjson

from pipeline.engine.wire import RuleRef
from pipeline.rules.model import Rule, Technique

PROVIDER: Final = "firstseen"
"""Who judges by the rule and raises its alerts."""

_REMEMBERED: Final = 4096
"""The number of rules for which this is cached."""

_parts: dict[tuple[RuleRef, str], tuple[Rule | None, dict[str, orjson.Fragment]]] = {}


def rule_parts(ref: RuleRef, rule: Rule | None, category: str) -> dict[str, orjson.Fragment]:
    """Return what all alerts of a rule have in common, by field, from a cache if possible.

    Args:
        ref: the rule, as the observation names it.
        rule: the rule itself; None on a worker that does not have it.
        category: the type of the rule, for ``rule.category``.
    """
    known = _parts.get((ref, category))
    if known is None or known[0] is not rule:
        parts: dict[str, Any] = {"rule": rule_fields(ref, rule, category)}
        if rule is not None:
            parts |= _threat_fields(rule)
            if rule.tags:
                parts["tags"] = list(rule.tags)
        if len(_parts) >= _REMEMBERED:
            _parts.clear()
        fragments = {name: orjson.Fragment(orjson.dumps(value)) for name, value in parts.items()}
        known = _parts[ref, category] = rule, fragments
    return known[1]


def rule_fields(ref: RuleRef, rule: Rule | None, category: str) -> dict[str, Any]:
    """Return the field ``rule``; the arguments are those of `rule_parts`."""
    fields: dict[str, Any] = {
        "id": ref.id,
        "name": ref.name,
        "version": str(ref.version),
        "category": category,
        "ruleset": PROVIDER,
    }
    if rule is None:
        return fields
    fields["description"] = rule.description
    if rule.references:
        fields["reference"] = list(rule.references)
    if rule.author:
        fields["author"] = list(rule.author)
    if rule.license:
        fields["license"] = rule.license
    return fields


def _threat_fields(rule: Rule) -> dict[str, Any]:
    """Return ``threat`` in the layout of ECS: parallel arrays over all threats of the rule."""
    if not rule.threat:
        return {}
    tactics: dict[str, tuple[str, str]] = {}
    techniques: dict[str, Technique] = {}
    subtechniques: dict[str, Technique] = {}
    for threat in rule.threat:
        tactics[threat.tactic_id] = (threat.tactic_name, threat.tactic_reference)
        for technique in threat.techniques:
            techniques[technique.id] = technique
            subtechniques |= {sub.id: sub for sub in technique.subtechniques}
    fields: dict[str, Any] = {
        "framework": rule.threat[0].framework,
        "tactic": {
            "id": list(tactics),
            "name": [name for name, _ in tactics.values()],
            "reference": [reference for _, reference in tactics.values()],
        },
    }
    if techniques:
        fields["technique"] = _technique_fields(techniques)
        if subtechniques:
            fields["technique"]["subtechnique"] = _technique_fields(subtechniques)
    return {"threat": fields}


def _technique_fields(techniques: dict[str, Technique]) -> dict[str, Any]:
    return {
        "id": list(techniques),
        "name": [technique.name for technique in techniques.values()],
        "reference": [technique.reference for technique in techniques.values()],
    }
