"""Where output goes: answers to stdout, everything about them to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TextIO

import click

from pipeline.terminal import printable, printable_json

# Nothing is wrapped unless stdout is a terminal: the next program wants whole lines.
_WIDE = 100_000


def write_json(value: Any) -> None:
    """Write one JSON value to stdout, on a line of its own."""
    write_json_line(json.dumps(value, ensure_ascii=False, default=str))


def write_json_line(line: str | bytes) -> None:
    """Write a line of JSON to stdout: as it is, or made safe if stdout is a terminal."""
    if sys.stdout.isatty():
        text = line if isinstance(line, str) else line.decode("utf-8", "replace")
        click.echo(printable_json(text))
    elif isinstance(line, bytes):
        binary = click.get_binary_stream("stdout")
        binary.write(line + b"\n")
        binary.flush()  # the next program may be waiting for it
    else:
        click.echo(line)


def confirmed(question: str) -> bool:
    """Ask on standard error whether to continue; the default is no.

    Raises:
        click.UsageError: standard input is not a terminal, so nobody can answer.
    """
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to ask: use --yes, or --dry-run to look first")
    return click.confirm(question, err=True)


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Iterable[int] = (),
    title: str | None = None,
    stream: Literal["stdout", "stderr"] = "stdout",
) -> None:
    """Write a table for people.

    Args:
        header: the names of the columns.
        rows: the cells, which are escaped here.
        right: the numbers of the columns that are aligned to the right.
        title: a line above the table.
        stream: stdout if the table is the answer, stderr if it is about the answer.
    """
    from rich.console import Console  # noqa: PLC0415  (slow to import, and most commands need none)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    file: TextIO = sys.stdout if stream == "stdout" else sys.stderr
    columns = set(right)
    shown = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for number, name in enumerate(header):
        # The first column identifies the row: an id or a key is not wrapped.
        shown.add_column(
            name,
            justify="right" if number in columns else "left",
            overflow="fold",
            no_wrap=number == 0,
        )
    for row in rows:
        shown.add_row(*(Text(printable(str(cell))) for cell in row))
    width = None if file.isatty() else _WIDE
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(shown)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()), file=file)
