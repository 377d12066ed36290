"""Fuzz the engine.

python -m tests.fuzz                                          20,000 records
python -m tests.fuzz --records 1000000 --json figures.json    the run that docs/hostile-input.md tells of
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.fuzz.records import fuzzed_records
from tests.fuzz.run import Fuzzed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--records", type=int, default=20_000, help="how many (default 20000)")
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--seed", type=int, default=1, help="other records (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write failing inputs there")
    arguments = parser.parse_args()

    fuzzed = Fuzzed()
    figures = fuzzed.run(
        fuzzed_records(arguments.seed), limit=arguments.records, seconds=arguments.seconds
    )
    found = figures.to_dict()
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for name, value in found.items():
        if name != "samples":
            print(f"{name:<20} {value}")  # noqa: T201
    for number, (value, problem) in enumerate(fuzzed.kept):
        print(f"--- {problem[-2000:]}\n{(value or b'')[:300]!r}", file=sys.stderr)  # noqa: T201
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            (arguments.keep / f"{number:03}").write_bytes(value or b"")
    return 0 if figures.good else 1


if __name__ == "__main__":
    sys.exit(main())
