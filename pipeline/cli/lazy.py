"""A group of commands whose modules are imported only when they are called.

A group's help lists its commands without importing any of them: Faust, pydantic and the Kafka
clients take a second to load, and ``firstseen --help`` needs none of them.
"""

from __future__ import annotations

import difflib
import gc
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import click


@contextmanager
def importing() -> Iterator[None]:
    """Import without garbage collection, which finds nothing yet and takes a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class LazyCommand(NamedTuple):
    """Where a command is defined, and its line in the help of its group."""

    module: str
    name: str
    summary: str


class SuggestingGroup(click.Group):
    """A group that suggests the closest name for a command that it does not have.

    Its commands are listed in the order in which they are defined.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (Click's signature)
        """Return the names."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or fail with a suggestion."""
        name = args[0]
        known = self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)


class LazyGroup(SuggestingGroup):
    """A group that imports a command when it is called, and not for the group's help.

    Args:
        lazy: commands by name, in the order of the help.
        arguments: those of `click.Group`.
    """

    def __init__(self, *, lazy: Mapping[str, LazyCommand], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names, in the given order."""
        return list(self.lazy)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        """Import the command; return None if there is no such name."""
        entry = self.lazy.get(cmd_name)
        if entry is None:
            return None
        with importing():
            command = getattr(importlib.import_module(entry.module), entry.name)
        assert isinstance(command, click.Command)  # noqa: S101  (the table is ours)
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the list of commands from their summaries."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.lazy.items()])
