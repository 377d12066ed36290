"""`firstseen match`: rules against the lines of a file, without any state."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipeline.cli.events import Line, read_lines
from pipeline.cli.loading import load_fields, load_rules_to_judge
from pipeline.cli.options import EVENTS_FILE, fields_option, rules_option
from pipeline.cli.output import write_json_line
from pipeline.engine.index import index_of
from pipeline.rules import RuleSet


@click.command()
@click.argument("events", metavar="EVENTS", type=EVENTS_FILE)
@rules_option
@fields_option
@click.option(
    "--respect-index",
    is_flag=True,
    help="Judge a rule only by events whose data stream fits its index patterns.",
)
def match(
    events: Path, rule_paths: tuple[Path, ...], fields_file: Path | None, respect_index: bool
) -> None:
    """Write which rules match each line of EVENTS: {"line":1,"matches":["<rule_id>"]}.

    Only a rule's query and filters count: no history, quota or index patterns. Disabled rules are
    included, and so are threshold and indicator match rules. For a line that is not an event, the
    output says why: {"line":2,"error":"invalid_json"}. EVENTS may be .gz, .zst, or `-`.

    \b
    Examples:
      firstseen match events.ndjson
      firstseen match --rules my-rules/ - < events.ndjson
    """
    ruleset = load_rules_to_judge(rule_paths, load_fields(fields_file))
    for line in read_lines([events]):
        if line.error is not None:
            verdict: dict[str, object] = {"line": line.number, "error": line.error.reason}
        else:
            verdict = {"line": line.number, "matches": _matches(line, ruleset, respect_index)}
        write_json_line(json.dumps(verdict, separators=(",", ":"), ensure_ascii=False))


def _matches(line: Line, ruleset: RuleSet, respect_index: bool) -> list[str]:
    return sorted(
        {
            compiled.rule.rule_id
            for event in line.events
            for compiled in ruleset.rules
            if not respect_index or compiled.accepts_index(index_of(event))
            if compiled.matcher(event)
        }
    )
