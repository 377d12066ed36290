"""`firstseen history backfill`: a rule learns from the retained log before it alerts."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.exits import say_warning
from pipeline.cli.options import SettingsFlags, json_option, rules_option, settings_options
from pipeline.cli.output import table, write_json
from pipeline.cli.progress import bar
from pipeline.cli.status_line import StatusLine
from pipeline.config.values import milliseconds
from pipeline.errors import EXIT_OK, RuleError

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.history import BackfillResult, Progress
    from pipeline.rules import CompiledRule

# By the values of `Phase.LEARN` and `Phase.RESEND`, whose module is slow to import.
_STEPS = {"learn": "learning from the log", "tell": "sending again what was held"}
_REFRESH_SECONDS = 0.1


class _Duration(click.ParamType):
    """A duration such as ``14d``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        from pipeline.config import parse_duration  # noqa: PLC0415  (pydantic is slow to import)

        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


@click.command()
@click.option("--rule", "rule_id", metavar="RULE_ID", required=True, help="The rule that learns.")
@click.option(
    "--since",
    metavar="DURATION",
    type=_Duration(),
    help="How far back to learn, such as 14d. Default: the length of the rule's history.",
)
@click.option("--again", is_flag=True, help="Start over, even if a backfill is done or under way.")
@click.option(
    "--max-rate",
    metavar="N",
    type=click.FloatRange(min=0, min_open=True),
    help="Read at most N records a second, to limit the load on the brokers. Default: no limit.",
)
@rules_option
@settings_options
@json_option
def backfill(
    *,
    settings_flags: SettingsFlags,
    rule_paths: tuple[Path, ...],
    rule_id: str,
    since: timedelta | None,
    again: bool,
    max_rate: float | None,
    as_json: bool,
) -> int:
    """Let a rule learn from the retained log, so that only what comes later is new.

    Everything in the input topics that the workers have read so far is learned silently. What
    comes later is put off in the meantime, and then raises an alert if it is new. Other rules
    carry on. If stopped, the backfill resumes where it was when you run it again. Run it before
    the workers get the rule, or soon afterwards.

    \b
    Examples:
      firstseen history backfill --rule my-rule --rules my-rules/
      firstseen history backfill --rule my-rule --since 30d --max-rate 50000
    """
    settings = settings_flags.load(rules__paths=rule_paths or None)
    result = _run(settings, _rule(settings, rule_id), since=since, again=again, max_rate=max_rate)
    _report(result, as_json=as_json)
    return EXIT_OK


def _rule(settings: Settings, rule_id: str) -> CompiledRule:
    from pipeline.cli.loading import load_fields, read_rules  # noqa: PLC0415  (as above)

    ruleset = read_rules(settings.rules.paths, load_fields(settings.rules.fields)).ruleset
    compiled = ruleset.get(rule_id)
    if compiled is None:
        raise RuleError(
            f"{rule_id} is not among the rules: `firstseen rules list` shows them; --rules names "
            f"other files"
        )
    if not compiled.terms:
        raise RuleError(
            f"{rule_id} is a {compiled.rule.type} rule: only new_terms rules have a history"
        )
    return compiled


def _run(
    settings: Settings,
    compiled: CompiledRule,
    *,
    since: timedelta | None,
    again: bool,
    max_rate: float | None,
) -> BackfillResult:
    from pipeline.history import Backfill  # noqa: PLC0415  (as above)

    line = _ProgressLine()
    try:
        return Backfill(
            settings,
            compiled,
            back_ms=None if since is None else milliseconds(since),
            again=again,
            max_rate=max_rate,
            on_progress=line.show,
        ).run()
    finally:
        line.clear()


class _ProgressLine:
    """The current step, a bar, the number of records and their rate."""

    def __init__(self) -> None:
        self._status = StatusLine()
        self._begun = self._shown = time.monotonic()

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._shown < _REFRESH_SECONDS:
            return
        self._shown = now
        share = progress.done / progress.total if progress.total else 1.0
        rate = progress.read / max(now - self._begun, 1e-3)
        self._status.show(
            f"{_STEPS[progress.phase]} {bar(share)} · {progress.done:,} of {progress.total:,} "
            f"records · {rate:,.0f} a second"
        )

    def clear(self) -> None:
        self._status.clear()


def _report(result: BackfillResult, *, as_json: bool) -> None:
    if result.log_begins_ms is not None:
        begins = result.summary()["log_begins"]
        say_warning(f"the inputs retain nothing from before {begins}: the rule learns no more")
    if as_json:
        write_json(result.summary())
        return
    if result.was_done:
        click.echo(
            f"{result.rule_id} has learned from the log before; nothing to do. --again starts over",
            err=True,
        )
        return
    summary = result.summary()
    rows = [
        ("Learned since", summary["since"]),
        ("Records read", f"{result.read:,}"),
        ("Terms taught", f"{result.learned:,}"),
        ("Sightings sent again", f"{result.resent:,}"),
        *((f"Skipped: {reason}", f"{count:,}") for reason, count in result.skipped.most_common()),
    ]
    table(("BACKFILL, RESUMED" if result.resumed else "BACKFILL", ""), rows, right=[1])
