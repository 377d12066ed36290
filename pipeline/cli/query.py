"""`firstseen query`: checks, tries and explains one KQL query."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pipeline.cli.events import Line, read_lines
from pipeline.cli.lazy import SuggestingGroup
from pipeline.cli.loading import load_fields
from pipeline.cli.options import EVENTS_FILE, fields_option, json_option
from pipeline.cli.output import table, write_json, write_json_line
from pipeline.kql import (
    Explanation,
    FieldTable,
    compile_node,
    explain,
    field_names,
    format_query,
    parse,
)
from pipeline.terminal import printable

query_argument = click.argument("text", metavar="QUERY")
events_argument = click.argument("events", metavar="EVENTS", type=EVENTS_FILE)


@click.group(cls=SuggestingGroup)
def query() -> None:
    """Check, try and explain a KQL query.

    EVENTS is a file with one JSON event per line, and may be .gz or .zst; `-` is standard input.

    \b
    Examples:
      firstseen query check 'dll.name:*.dll and process.pid > 4'
      firstseen query match 'user.name:"ann"' events.ndjson
      firstseen query explain 'user.name:"ann"' events.ndjson
    """


@query.command()
@query_argument
@fields_option
@json_option
def check(text: str, fields_file: Path | None, as_json: bool) -> None:
    """Check a query: write its canonical form and the fields it reads; exit 1 on an error."""
    fields = load_fields(fields_file)
    node = parse(text)
    compile_node(node, fields)
    canonical = format_query(node)
    types = [(name, _type(name, fields)) for name in sorted(field_names(node))]
    if as_json:
        write_json(
            {
                "query": canonical,
                "fields": [{"name": name, "type": kind} for name, kind in types],
            }
        )
        return
    click.echo(printable(canonical))
    if types:
        click.echo()
        table(
            ("FIELD", "TYPE"),
            [(name, kind or _unmapped(name, fields)) for name, kind in types],
        )


def _type(name: str, fields: FieldTable) -> str | None:
    found = fields.get(name)
    return None if found is None else found.type


def _unmapped(name: str, fields: FieldTable) -> str:
    if "*" in name:
        return "(pattern)"
    near = fields.suggest(name)
    hint = f"; did you mean {near}?" if near else "; add its type with --fields"
    return f"not mapped: a clause on it is never true{hint}"


@query.command()
@query_argument
@events_argument
@fields_option
@click.option("--select", is_flag=True, help="Write the matching events instead, unchanged.")
def match(text: str, events: Path, fields_file: Path | None, select: bool) -> None:
    """Write for each line whether the query matches: {"line":1,"match":true}."""
    matcher = compile_node(parse(text), load_fields(fields_file))
    lines = matching = 0
    for line in read_lines([events]):
        verdict = any(matcher(event) for event in line.events)
        lines += 1
        matching += verdict
        if not select:
            write_json_line(_verdict(line, verdict))
        elif verdict:
            write_json_line(line.value)
    click.echo(f"{matching} of {lines} lines match", err=True)


def _verdict(line: Line, verdict: bool) -> str:
    if line.error is not None:
        return f'{{"line":{line.number},"error":"{line.error.reason}"}}'
    return f'{{"line":{line.number},"match":{"true" if verdict else "false"}}}'


@query.command("explain")
@query_argument
@events_argument
@fields_option
@json_option
def explain_events(text: str, events: Path, fields_file: Path | None, as_json: bool) -> None:
    """Show for each line which clauses of the query are true, with the values they read."""
    node = parse(text)
    fields = load_fields(fields_file)
    compile_node(node, fields)
    for line in read_lines([events]):
        if line.error is not None and not as_json:
            click.echo(f"line {line.number}: {line.error.reason}: {printable(str(line.error))}")
        elif line.error is not None:
            write_json({"line": line.number, "error": line.error.reason})
        for event in line.events:
            tree = explain(node, fields, event)
            if as_json:
                write_json({"line": line.number, **_tree_document(tree)})
            else:
                verdict = "matches" if tree.matches else "does not match"
                click.echo(f"line {line.number}: {verdict}")
                click.echo("\n".join(_tree_lines(tree, 1)))


def _tree_lines(tree: Explanation, depth: int) -> Iterator[str]:
    mark = click.style("✓", fg="green") if tree.matches else click.style("✗", fg="red")
    shown = printable(tree.query if tree.operator == "clause" else tree.operator)
    read = ""
    if tree.operator == "clause":
        read = f"   read: {', '.join(map(_value, tree.values))}" if tree.values else "   no value"
        read += f" ({printable(tree.note)})" if tree.note else ""
    yield f"{'  ' * depth}{mark} {shown}{read}"
    for child in tree.children:
        yield from _tree_lines(child, depth + 1)


def _value(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return printable(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")


_SHOWN_CHARACTERS = 200


def _tree_document(tree: Explanation) -> dict[str, Any]:
    document: dict[str, Any] = {
        "query": tree.query,
        "operator": tree.operator,
        "matches": tree.matches,
    }
    if tree.operator == "clause":
        document["values"] = list(tree.values)
    if tree.note:
        document["note"] = tree.note
    if tree.children:
        document["children"] = [_tree_document(child) for child in tree.children]
    return document
