"""A line at the bottom of a terminal that is rewritten again and again."""

from __future__ import annotations

import shutil
import sys

import click

_CLEAR = "\r\x1b[2K"


class StatusLine:
    """Keeps one line below everything else, on stderr.

    If stderr is not a terminal, there is no such line; `end` writes its last text once.
    """

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._text = ""

    def show(self, text: str) -> None:
        """Replace the line."""
        self._text = text
        if self._live:
            # A line that wraps could not be cleared.
            width = shutil.get_terminal_size().columns
            click.echo(f"{_CLEAR}{text[: width - 1]}", nl=False, err=True)

    def say(self, text: str, *, err: bool = False) -> None:
        """Write text above the line."""
        self.clear()
        click.echo(text, err=err)
        if self._text:
            self.show(self._text)

    def clear(self) -> None:
        """Clear the line until it is shown again."""
        if self._live:
            click.echo(_CLEAR, nl=False, err=True)

    def end(self) -> None:
        """Leave the last text on the screen."""
        if self._live and self._text:
            click.echo(err=True)
        elif self._text:
            click.echo(self._text, err=True)
        self._text = ""
