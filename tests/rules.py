"""Rules that tests and benchmarks make: in code, and as the text of a file."""

from __future__ import annotations

from typing import Any

from pipeline.rules.model import NewTerms, Rule, RuleType, Severity

BUILTIN_RULE = "852c1f19-68e8-43a6-9dce-340771fe1be3"
"""Id of the rule that comes with firstseen."""


def new_terms_rule(**changes: Any) -> Rule:
    """Return a `new_terms` rule over a day of programs, with these attributes changed."""
    attributes: dict[str, Any] = {
        "rule_id": "rule",
        "name": "New process",
        "description": "",
        "type": RuleType.NEW_TERMS,
        "version": 1,
        "severity": Severity.LOW,
        "risk_score": 21,
        "query": 'dll.name:"engine.dll"',
        "new_terms": NewTerms(("process.executable",), 86_400_000, "now-1d"),
    }
    return Rule(**(attributes | changes))


def as_threshold_rule(text: str) -> str:
    """Return the text of a file with a rule of type query as one of type threshold, untested."""
    kind = 'type = "threshold"\nthreshold = { field = ["user.id"], value = 9 }'
    return text.replace('type = "query"', kind).partition("[[tests]]")[0]


def rule_text(
    rule_id: str,
    query: str,
    *,
    interval: str = "1m",
    max_signals: int = 100,
    history: str = "7d",
) -> str:
    """Return the text of a rule for programs that were not seen on a host before.

    Args:
        rule_id: its id, and its name.
        query: its KQL.
        interval: the length of a window of its quota, and
        max_signals: how many alerts it may raise in one.
        history: how long a program is known.
    """
    return f"""
[rule]
author = ["firstseen tests"]
description = "A load by a program not seen on this host before."
from = "now-9m"
index = ["logs-endpoint.events.library-*"]
interval = "{interval}"
language = "kuery"
license = "Apache-2.0"
max_signals = {max_signals}
name = "{rule_id}"
risk_score = 10
rule_id = "{rule_id}"
severity = "low"
type = "new_terms"
query = '''{query}'''

[rule.new_terms]
field = "new_terms_fields"
value = ["host.id", "process.executable"]
[[rule.new_terms.history_window_start]]
field = "history_window_start"
value = "now-{history}"
"""
