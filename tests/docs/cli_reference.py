"""Writes docs/reference/cli.md from the commands themselves.

python -m tests.docs.cli_reference     after a change of a command, an option or a help text
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from pipeline.cli.root import firstseen

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"

HEAD = """\
# Command line

This page is generated from the commands (`python -m tests.docs.cli_reference`) and checked by a test.

* A command writes its result to standard output, and messages about it to standard error. If the
  default output is a table for people, `--json` gives the same as JSON.
* On a terminal, control characters and other invisible characters in event values are escaped
  (`\\x1b`, `\\u202e`): a file name must not be able to control your terminal. Into a pipe, JSON is
  passed on byte for byte.
* `--config FILE` and `--set KEY=VALUE` work for every command that uses settings. The first source
  that has a setting wins: `--set`, the environment (`FIRSTSEEN_SECTION__NAME`), the file, the
  default; see [settings](settings.md).
* [Exit codes](exit-codes.md) are the same for all commands.
* Shell completion comes with Click: put `eval "$(_FIRSTSEEN_COMPLETE=bash_source firstseen)"` into
  `~/.bashrc`; `zsh_source` and `fish_source` exist as well.
"""


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command that is not hidden, groups before their members."""
    return _below("firstseen", firstseen, None)


def _below(
    name: str, command: click.Command, parent: click.Context | None
) -> Iterator[tuple[str, click.Command, click.Context]]:
    context = click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=80,
        **command.context_settings,  # type: ignore[arg-type]
    )
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            if found is not None and not found.hidden:
                yield from _below(sub, found, context)


def render() -> str:
    """The whole page."""
    sections = [
        f"## {path}\n\n```text\n{command.get_help(context)}\n```\n"
        for path, command, context in commands()
    ]
    return "\n".join([HEAD, *sections])


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
