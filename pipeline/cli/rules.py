"""`firstseen rules`: which rules there are, what is wrong with them, whether their tests pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pipeline.cli.exits import say_error
from pipeline.cli.lazy import SuggestingGroup
from pipeline.cli.loading import LoadedRules, load_fields, read_rules, report_issues
from pipeline.cli.options import EXISTING_PATH, fields_option, json_option
from pipeline.cli.output import table, write_json
from pipeline.cli.rule_text import rule_document, rule_text
from pipeline.errors import EXIT_FINDINGS, EXIT_OK, RuleError
from pipeline.rules import Issue, TestResult, load_rules, run_tests
from pipeline.terminal import printable, printable_lines

paths_argument = click.argument("paths", metavar="[PATH]...", nargs=-1, type=EXISTING_PATH)


@click.group(cls=SuggestingGroup)
def rules() -> None:
    """List, check, test and show rules.

    PATH is a rule file or a folder of rule files; default: the built-in rules.

    \b
    Examples:
      firstseen rules list
      firstseen rules check my-rules/
      firstseen rules test my-rules/tool.toml
    """


@rules.command("list")
@paths_argument
@fields_option
@json_option
def list_rules(paths: tuple[Path, ...], fields_file: Path | None, as_json: bool) -> None:
    """List rules, and whether they run.

    STATUS is `runs`, or why a rule does not. Files without a usable rule are named on stderr.
    """
    loaded = read_rules(paths, load_fields(fields_file))
    report_issues(loaded.errors)
    status = _status(loaded)
    if as_json:
        write_json(
            [
                {
                    "rule_id": rule.rule_id,
                    "name": rule.name,
                    "type": rule.type.value,
                    "version": rule.version,
                    "severity": rule.severity.value,
                    "risk_score": rule.risk_score,
                    "enabled": rule.enabled,
                    "runs": status[rule.rule_id] == "runs",
                    "status": status[rule.rule_id],
                    "path": str(rule.path) if rule.path else None,
                }
                for rule in loaded.rules
            ]
        )
        return
    table(
        ("RULE ID", "NAME", "TYPE", "SEVERITY", "VERSION", "STATUS"),
        [
            (
                rule.rule_id,
                rule.name,
                rule.type.value,
                f"{rule.severity.value} {rule.risk_score}",
                rule.version,
                status[rule.rule_id],
            )
            for rule in loaded.rules
        ],
        right=[4],
    )


def _status(loaded: LoadedRules) -> dict[str, str]:
    status = {rule.rule_id: "error: see `firstseen rules check`" for rule in loaded.rules}
    status |= {compiled.rule.rule_id: "runs" for compiled in loaded.ruleset.runnable}
    return status | {rule.rule_id: f"skipped: {why}" for rule, why in loaded.ruleset.skipped}


@rules.command()
@paths_argument
@fields_option
@json_option
def check(paths: tuple[Path, ...], fields_file: Path | None, as_json: bool) -> int:
    """Check rules; exit 1 if one of them has an error.

    Each finding is a line `path:line: severity[code]: message (hint)`. With an `error`, the rule is
    not used; with a `warning`, it will not do what it seems to say; with an `info`, it works, at a
    cost.
    """
    loaded = read_rules(paths, load_fields(fields_file))
    if as_json:
        write_json(
            {
                "rules": len(loaded.rules),
                "runnable": len(loaded.ruleset.runnable),
                "issues": [_issue_document(issue) for issue in loaded.issues],
            }
        )
    else:
        for issue in loaded.issues:
            click.echo(printable_lines(_issue_text(issue)))
        counts = Counter(issue.severity for issue in loaded.issues)
        click.echo(
            f"{_count(len(loaded.rules), 'rule')}, {len(loaded.ruleset.runnable)} of them run; "
            f"{_count(counts['error'], 'error')}, {_count(counts['warning'], 'warning')}, "
            f"{counts['info']} info",
            err=True,
        )
    return EXIT_FINDINGS if loaded.errors else EXIT_OK


def _issue_text(issue: Issue) -> str:
    if issue.path is not None:  # a file's name may contain line breaks too
        issue = replace(issue, path=Path(printable(str(issue.path))))
    # The excerpt in a query error ends with its hint; saying it once is enough.
    if issue.hint and issue.hint in issue.message:
        return str(issue).removesuffix(f" ({issue.hint})")
    return str(issue)


def _issue_document(issue: Issue) -> dict[str, Any]:
    return {
        "code": issue.code,
        "severity": issue.severity,
        "message": issue.message,
        "path": str(issue.path) if issue.path else None,
        "line": issue.line,
        "rule_id": issue.rule_id,
        "hint": issue.hint,
    }


@rules.command()
@paths_argument
@fields_option
@json_option
def test(paths: tuple[Path, ...], fields_file: Path | None, as_json: bool) -> int:
    """Run the tests in the rule files.

    Exit 1 if one fails or cannot be run, or a rule has an error.
    """
    loaded = read_rules(paths, load_fields(fields_file))
    if not as_json:
        report_issues(loaded.errors)
    results = [result for compiled in loaded.ruleset.rules for result in run_tests(compiled)]
    untested = [c.rule for c in loaded.ruleset.runnable if not c.rule.tests]
    failed = [result for result in results if not result.passed]
    judged = {c.rule.rule_id for c in loaded.ruleset.rules}
    not_run = {
        rule.rule_id: (len(rule.tests), why)
        for rule, why in loaded.ruleset.skipped
        if rule.tests and rule.rule_id not in judged
    }
    if as_json:
        write_json(
            {
                "passed": len(results) - len(failed),
                "failed": len(failed),
                "errors": len(loaded.errors),
                "without_tests": [rule.rule_id for rule in untested],
                "not_run": {rule_id: why for rule_id, (_, why) in not_run.items()},
                "tests": [_result_document(result) for result in results],
            }
        )
    else:
        _report_results(failed)
        for rule_id, (number, why) in not_run.items():
            say_error(f"{_count(number, 'test')} of {rule_id} not run: the rule {why}")
        without = f"; {_count(len(untested), 'rule')} without tests" if untested else ""
        click.echo(
            f"{_count(len(results), 'test')}: {len(results) - len(failed)} passed, "
            f"{len(failed)} failed{without}",
            err=True,
        )
    return EXIT_FINDINGS if failed or not_run or loaded.errors else EXIT_OK


def _report_results(failed: Iterable[TestResult]) -> None:
    for result in failed:
        place = f"{result.path}:{result.line}: " if result.path else ""
        click.echo(printable(f"{place}failed: {result.name}"))
        for failure in result.failures:
            click.echo(f"    {printable(failure)}")


def _result_document(result: TestResult) -> dict[str, Any]:
    return {
        "rule_id": result.rule_id,
        "name": result.name,
        "path": str(result.path) if result.path else None,
        "line": result.line,
        "passed": result.passed,
        "failures": list(result.failures),
    }


@rules.command()
@paths_argument
@click.option("--id", "rule_id", metavar="RULE_ID", help="Only the rule with this id.")
@json_option
def show(paths: tuple[Path, ...], rule_id: str | None, as_json: bool) -> None:
    """Show rules in full: query, history, schedule, threats, investigation guide."""
    loaded = load_rules(list(paths) or None)
    report_issues([issue for issue in loaded.issues if issue.severity == "error"])
    shown = [rule for rule in loaded.rules if rule_id in (None, rule.rule_id)]
    if not shown:
        raise RuleError(f"no rule has the id {rule_id}" if rule_id else "there is no rule to show")
    if as_json:
        write_json([rule_document(rule) for rule in shown])
        return
    click.echo("\n\n".join(printable_lines(rule_text(rule)) for rule in shown))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
