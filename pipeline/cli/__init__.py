"""The command line. Only this package imports Click and rich."""

from __future__ import annotations

from pipeline.cli.interrupt import end_on_interrupt, raise_on_interrupt

__all__ = ["main"]


def main() -> None:
    """Run the command line and leave with its exit code (docs/reference/exit-codes.md)."""
    end_on_interrupt()
    from pipeline.cli.process import run  # noqa: PLC0415

    raise_on_interrupt()
    run()
