"""Turns what a command raises into a message for the user, or a log event, and an exit code.

The codes are listed in docs/reference/exit-codes.md. Commands return None or their exit code, and
raise everything else. Only this module catches.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from pipeline.cli.interrupt import EXIT_INTERRUPTED
from pipeline.cli.lazy import LazyGroup
from pipeline.errors import EXIT_FINDINGS, EXIT_OK, FirstseenError
from pipeline.terminal import printable_lines

EXIT_BROKEN_PIPE: Final = 141
"""128 plus the number of SIGPIPE, as shells report it."""


_LOGS_ERRORS: Final = f"{__name__}.logs_errors"
"""The key in a context's `meta`, which all contexts of one call share."""


class ReportingGroup(LazyGroup):
    """The root group; ends the process with the appropriate exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit the process unless `standalone_mode` is off."""
        _open_missing_streams()
        run: Callable[[], Any] = partial(
            super().main, args, prog_name, complete_var, standalone_mode=False, **extra
        )
        if not standalone_mode:
            return run()
        try:
            code = run()
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except click.Abort:
            code = EXIT_INTERRUPTED
        sys.exit(EXIT_OK if code is None else code)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; if it fails, say why in one line."""
        if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            ctx.color = False
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except FirstseenError as error:
            if not _log(ctx, error):
                say_error(str(error))
                _trace(ctx)
            raise click.exceptions.Exit(error.exit_code) from error
        except BrokenPipeError as error:
            _discard_output()
            raise click.exceptions.Exit(EXIT_BROKEN_PIPE) from error
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            if not _log(ctx, error):
                _say_unexpected(ctx, error)
            if _is_refusal(error):
                _discard_output()
            raise click.exceptions.Exit(EXIT_FINDINGS) from error
        return code


def log_start_errors() -> None:
    """Have an error of this command logged instead of said, where the logs are JSON.

    Who ships the logs of a worker then gets the reason why it does not start in the same form.
    """
    click.get_current_context().meta[_LOGS_ERRORS] = True


def _say_unexpected(ctx: click.Context, error: Exception) -> None:
    """Write an error that is none of ours to stderr."""
    if _is_refusal(error):
        say_error(str(error))
        _trace(ctx)
        return
    say_error(f"sorry, this is a bug in firstseen: {type(error).__name__}: {error}")
    if not _trace(ctx):
        click.echo("Please report it with the output of `firstseen --debug ...`.", err=True)


def _is_refusal(error: Exception) -> bool:
    """Whether the system refuses something, as with a full disk: no bug, and none of our errors."""
    return isinstance(error, OSError) and error.errno is not None


def _log(ctx: click.Context, error: Exception) -> bool:
    """Log an error of a command that asked for it; return whether it did, and logs are JSON."""
    if not ctx.meta.get(_LOGS_ERRORS):
        return False
    from pipeline.telemetry.logging import get_logger, writes_json  # noqa: PLC0415  (pydantic)

    if not writes_json():
        return False
    expected = isinstance(error, FirstseenError) or _is_refusal(error)
    get_logger(__name__).error(
        "could not start" if expected else "could not start because of a bug: please report it",
        action="worker_not_started",
        error=error,
        exc_info=error if _wants_trace(ctx) else None,
    )
    return True


def say_error(message: str) -> None:
    """Write an error to stderr, safe to print whatever it quotes."""
    click.echo(f"{click.style('Error:', fg='red')} {printable_lines(message)}", err=True)


def say_warning(message: str) -> None:
    """Write a warning to stderr, safe to print whatever it quotes."""
    click.echo(f"{click.style('Warning:', fg='yellow')} {printable_lines(message)}", err=True)


def _trace(ctx: click.Context) -> bool:
    """Show the traceback of the current error if the user asked for it; return if so."""
    if _wants_trace(ctx):
        click.echo(printable_lines(traceback.format_exc()), err=True)
        return True
    return False


def _wants_trace(ctx: click.Context) -> bool:
    asked = bool(ctx.params.get("debug"))
    return asked or os.environ.get("FIRSTSEEN_LOG__LEVEL", "").lower() == "debug"


def _discard_output() -> None:
    """Discard what the interpreter flushes last, or it would complain about the output again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())


def _open_missing_streams() -> None:
    """Replace a closed standard output or error by one that discards everything."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
