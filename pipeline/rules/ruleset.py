"""Rules compiled against field types, as one immutable set with a digest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from pipeline.kql import FieldTable, SharedPatterns, field_names
from pipeline.rules.compile import compile_rule
from pipeline.rules.compiled import CompiledRule
from pipeline.rules.exceptions import CheckedExceptions
from pipeline.rules.filters import canonical_filters
from pipeline.rules.issues import Issue
from pipeline.rules.model import Rule


class RuleSet:
    """An immutable set of compiled rules.

    Attributes:
        rules: the rules whose query and filters can be evaluated (``firstseen match``), in the
            order given. Besides the runnable rules, these are threshold, indicator match and
            disabled rules, and `new_terms` rules with an unmapped field.
        runnable: the rules that a worker or a replay runs: enabled rules of type `new_terms` or
            `query` that can raise alerts.
        skipped: the rules that are not run, each with the reason, in the order given.
        digest: the SHA-256 (hex) of everything that affects which alerts are raised: equal digests
            give equal verdicts. The order of the rules and their prose do not count.
    """

    __slots__ = ("_by_id", "digest", "rules", "runnable", "skipped")

    def __init__(
        self, rules: Iterable[CompiledRule], skipped: Iterable[tuple[Rule, str]] = ()
    ) -> None:
        self.rules: tuple[CompiledRule, ...] = tuple(rules)
        self.skipped: tuple[tuple[Rule, str], ...] = tuple(skipped)
        not_run = {rule.rule_id for rule, _ in self.skipped}
        self.runnable: tuple[CompiledRule, ...] = tuple(
            compiled for compiled in self.rules if compiled.rule.rule_id not in not_run
        )
        self.digest: str = _digest(self.rules, not_run)
        self._by_id: Mapping[str, CompiledRule] = MappingProxyType(
            {compiled.rule.rule_id: compiled for compiled in self.rules}
        )

    @classmethod
    def compile(
        cls, rules: Iterable[Rule], fields: FieldTable, drafts: Iterable[Rule] = ()
    ) -> tuple[RuleSet, tuple[Issue, ...]]:
        """Compile each rule; one that does not compile is left out, with an issue that says why.

        Args:
            rules: rules with distinct ids, as returned by `load_rules`.
            fields: the field types to compile against.
            drafts: rules with errors in their keys, as returned by `load_rules`: what else is wrong
                with them is reported, but they are left out in any case.
        """
        compiled: list[CompiledRule] = []
        skipped: list[tuple[Rule, str]] = []
        issues: list[Issue] = []
        patterns, checked = SharedPatterns(), CheckedExceptions(fields)
        for rule in rules:
            result = compile_rule(rule, fields, patterns, checked)
            issues.extend(result.issues)
            if result.compiled is not None:
                compiled.append(result.compiled)
            if result.reason is not None:
                skipped.append((rule, result.reason))
        for draft in drafts:
            issues.extend(compile_rule(draft, fields).issues)
        # What is wrong with an exception is found once for each rule that it applies to.
        return cls(compiled, skipped), tuple(dict.fromkeys(issues))

    def get(self, rule_id: str) -> CompiledRule | None:
        """Return the compiled rule with this id, if there is one."""
        return self._by_id.get(rule_id)

    def __len__(self) -> int:
        return len(self.rules)

    def __repr__(self) -> str:
        return f"RuleSet({len(self.runnable)} run, {len(self.skipped)} skipped, {self.digest[:12]})"


def _digest(rules: Iterable[CompiledRule], not_run: set[str]) -> str:
    entries = sorted(_decides(each, runs=each.rule.rule_id not in not_run) for each in rules)
    return sha256("\n".join(entries).encode()).hexdigest()


def _decides(compiled: CompiledRule, *, runs: bool) -> str:
    """Return everything in a rule that affects which alerts are raised, as a canonical line."""
    rule = compiled.rule
    names = sorted(
        field_names(compiled.node).union(rule.new_terms.fields if rule.new_terms else ())
    )
    entry: dict[str, Any] = {
        "id": rule.rule_id,
        "version": rule.version,
        "type": rule.type,
        "runs": runs,
        "query": compiled.query,
        "filters": canonical_filters(compiled.filters),
        "terms": rule.new_terms.fields if rule.new_terms else None,
        "history_ms": rule.new_terms.history_ms if rule.new_terms else None,
        "index": rule.searched_index,
        "interval_ms": rule.interval_ms,
        "max_signals": rule.max_signals,
        "severity": rule.severity,
        "risk_score": rule.risk_score,
        "timestamp": [rule.timestamp_override, rule.timestamp_override_fallback_disabled],
        "fields": [(name, repr(compiled.fields.get(name))) for name in names],
    }
    return json.dumps(entry, sort_keys=True)
