"""What the smaller benchmarks have in common as commands: their parser, and how they tell."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path


def command_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of `python -m tests.benchmarks.NAME`, which knows `--json` already."""
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    return parser


def tell(figures: Mapping[str, object], file: Path | None) -> None:
    """Write figures to standard output, and to a file if one is asked for."""
    text = json.dumps(figures, indent=2) + "\n"
    sys.stdout.write(text)
    if file is not None:
        file.write_text(text)
