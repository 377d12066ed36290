"""What the benchmarks have in common as commands: their options, and how they tell."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

Say = Callable[[str], None]


def say(text: str) -> None:
    """Tell a person how it goes, on standard error."""
    sys.stderr.write(f"{text}\n")


def command_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of `python -m tests.benchmarks.NAME`, which knows `--json` already."""
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    return parser


def add_without_native(parser: argparse.ArgumentParser) -> None:
    """Add the option of those that start a worker: `--without-native`."""
    parser.add_argument(
        "--without-native",
        action="store_true",
        help="measure the worker without firstseen-native, and make no environment that has it",
    )


def tell(figures: Mapping[str, object], file: Path | None) -> None:
    """Write figures to standard output, and to a file if one is asked for."""
    text = json.dumps(figures, indent=2) + "\n"
    sys.stdout.write(text)
    if file is not None:
        file.write_text(text)
