"""One host makes up terms without end: what it costs, and what the others lose.

python -m tests.fuzz.flood                                          300,000 terms, bound 100,000
python -m tests.fuzz.flood --terms 10000000 --bound 1000000         what docs/hostile-input.md tells of

The engine decides on tables in RocksDB, as a worker's partitions do, and the quota on each new term. Before the flood quiet hosts
are seen; after it every one of them has to be known still, with the rule full and the disk bounded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil

from pipeline.engine.first_seen import FirstSeen
from pipeline.engine.quota import Quota
from pipeline.engine.row_counts import RowCounts
from pipeline.engine.wire import NewTerm, Observation, RuleRef, Source
from pipeline.replay.rocks import RocksTable
from tests.events import encode, library_event

QUIET_HOSTS = 10_000
_HISTORY = "ab" * 8
_DAY_MS = 86_400_000
_NOW_MS = 1_772_438_400_000
_RULE = RuleRef("flooded", "Flooded", 1, "low", 21, 100, 300_000, ("host.id", "process.executable"))
_EVENT = msgspec.Raw(encode(library_event(number=1)))


def observation(number: int, host: str, executable: str) -> Observation:
    source = Source("events", 0, number, _NOW_MS)
    terms = (host, executable)
    return Observation(
        _RULE, _HISTORY, 14 * _DAY_MS, terms, _NOW_MS + number, str(number), "id", source, _EVENT
    )


def new_term(seen: Observation) -> NewTerm:
    alert = msgspec.Raw(b'{"event":{}}')
    number = seen.source.offset
    return NewTerm(f"{number:040x}", _RULE, seen.terms, seen.time_ms, _NOW_MS, alert, _HISTORY)


def quiet(first: int) -> Iterator[Observation]:
    for number in range(QUIET_HOSTS):
        yield observation(first + number, f"quiet-{number}", r"C:\Windows\explorer.exe")


def flood(first: int, terms: int) -> Iterator[Observation]:
    for number in range(terms):
        yield observation(first + number, "noisy", rf"C:\made-up\{number:012x}\tool.exe")


def run(terms: int, bound: int, folder: Path, say: Callable[[str], object]) -> bool:
    """Flood the state; return whether the bound held and nobody was forgotten."""
    row_counts = RowCounts(bound)
    row_counts.all_reached()  # the state is empty: the first pass over it is through
    process = psutil.Process()
    with RocksTable(folder / "first-seen") as table, RocksTable(folder / "quota") as quota_table:
        first_seen, quota = FirstSeen(table, row_counts), Quota(quota_table)
        for offset, each in enumerate(quiet(0)):
            first_seen.observe(each, offset, offset)
        warm, begun = process.memory_info().rss, time.process_time()
        new = refused = 0
        for offset, each in enumerate(flood(QUIET_HOSTS, terms), QUIET_HOSTS):
            found = first_seen.observe(each, offset, offset)
            new += found.new
            quota.admit(new_term(each), offset, each.time_ms, offset)
            refused += not found.remembered
        seconds = time.process_time() - begun
        growth = process.memory_info().rss - warm
        after = QUIET_HOSTS + terms
        known = sum(
            not first_seen.observe(each, offset, offset).new
            for offset, each in enumerate(quiet(after), after)
        )
        rows = row_counts.of(_RULE.id)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    say(f"terms made up by one host     {terms:,}")
    say(f"judged new                    {new:,}")
    say(f"of them not remembered        {refused:,}")
    say(f"rows of the rule              {rows:,} of {bound:,}")
    say(f"quiet hosts still known       {known:,} of {QUIET_HOSTS:,}")
    say(f"memory grew by                {growth >> 20:,} MiB")
    say(f"disk                          {size >> 20:,} MiB")
    say(f"CPU                           {seconds / terms * 1e6:.1f} µs a term")
    return new == terms and rows == min(bound, terms + QUIET_HOSTS) and known == QUIET_HOSTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.flood", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--terms", type=int, default=300_000, help="how many (default 300000)")
    parser.add_argument("--bound", type=int, default=100_000, help="rows of a rule (100000)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="firstseen-flood-") as folder:
        held = run(arguments.terms, arguments.bound, Path(folder) / "state", print)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
