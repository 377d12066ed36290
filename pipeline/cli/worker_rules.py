"""Loads the rules of a worker, and reports problems in its log and its metrics."""

from __future__ import annotations

from pipeline.cli.loading import check_runnable, load_fields, read_rules
from pipeline.config import Settings
from pipeline.rules import Issue, RuleSet
from pipeline.telemetry.logging import get_logger
from pipeline.telemetry.metrics import Metrics

log = get_logger(__name__)


def load_worker_rules(settings: Settings, metrics: Metrics) -> RuleSet:
    """Load the rules that the settings name.

    Raises:
        FieldTypesError: `rules.fields` does not hold field types.
        RuleError: none of them can be run.
    """
    loaded = read_rules(settings.rules.paths, load_fields(settings.rules.fields))
    for issue in loaded.issues:
        _log_issue(issue)
    for reason, ids in loaded.skipped.items():
        log.info("rules are not run", action="rules_skipped", reason=reason, rules=len(ids))
    disabled = sum(not rule.enabled for rule, _ in loaded.ruleset.skipped)
    metrics.rules_loaded.labels("disabled").set(disabled)
    metrics.rules_loaded.labels("skipped").set(len(loaded.ruleset.skipped) - disabled)
    metrics.rules_loaded.labels("invalid").set(loaded.invalid)
    check_runnable(loaded.ruleset)
    return loaded.ruleset


def _log_issue(issue: Issue) -> None:
    if issue.severity == "error":
        log.error(
            "a rule or exception is not used",
            action="rule_not_used",
            code=issue.code,
            rule_id=issue.rule_id,
            finding=str(issue),
        )
    elif issue.severity == "warning":
        log.warning(
            "a rule may not do what it says",
            action="rule_doubtful",
            code=issue.code,
            rule_id=issue.rule_id,
            finding=str(issue),
        )
