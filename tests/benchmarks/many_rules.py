"""The price of many rules, without a broker: batches in memory through the worker's own filter.

    python -m tests.benchmarks.many_rules [--rules 1 10 100 241] [--events 20000] [--share 0.001]

For each number of rules: microseconds of CPU an event, the best of some rounds in turn, and how many
times that of the first number. Beside them, what decompressing alone takes.
"""

from __future__ import annotations

import argparse
import itertools
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from aiokafka.consumer.fetcher import READ_UNCOMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from pipeline.assembly.native import uses_native
from pipeline.config import Settings
from pipeline.kql import FieldTable
from pipeline.record import Position
from pipeline.rules import RuleSet, builtin_path, load_rules
from pipeline.stream.match_filter import MatchFilter
from pipeline.stream.transport import batches
from pipeline.stream.transport.bundles import BundleBuffer
from pipeline.stream.transport.decompression import Decompressor
from pipeline.stream.transport.filtered_records import FilteredRecords
from pipeline.stream.transport.options import Depth
from pipeline.stream.transport.scanning import batch_scan
from pipeline.telemetry.metrics import Metrics
from tests.benchmarks.generator import BATCH_RECORDS, Corpus, events
from tests.benchmarks.rules import write_rules

_ZSTD = 4
_TOPIC = "events"
_MATCHED = 1 << 30


def fetched(corpus: Corpus) -> bytes:
    """Return a corpus as the bytes of a fetch: record batches, one after the other."""
    data = bytearray()
    for number, value in enumerate(events(corpus)):
        if number % BATCH_RECORDS == 0:
            builder = DefaultRecordBatchBuilder(
                magic=2,
                compression_type=_ZSTD,
                is_transactional=0,
                producer_id=-1,
                producer_epoch=0,
                base_sequence=0,
                batch_size=8 << 20,
            )
        builder.append(number % BATCH_RECORDS, 1_772_438_400_000 + number, None, value, [])
        if number % BATCH_RECORDS == BATCH_RECORDS - 1 or number == corpus.count - 1:
            batch = bytearray(builder.build())
            struct.pack_into(">q", batch, 0, number - number % BATCH_RECORDS)
            data += batch
    return bytes(data)


def rule_set(count: int, *, indices: str = "every") -> RuleSet:
    """Return the built-in rule and so many generated ones that there are `count`."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [builtin_path()]
        if count > 1:
            paths.append(write_rules(Path(folder) / "rules", count - 1, indices=indices))
        ruleset, _ = RuleSet.compile(load_rules(paths).rules, FieldTable.builtin())
    if len(ruleset.runnable) != count:
        raise RuntimeError(f"{len(ruleset.runnable)} rules run instead of {count}")
    return ruleset


def passed(
    data: bytes, record_filter: MatchFilter, depth: Depth, partition: int = 0, *, native: bool
) -> int:
    """Read a fetch through a filter, and return how many records it lets through.

    What was forwarded of a partition and is read again is forwarded again: see `ForwardedCache`.
    """
    bundle_buffer = BundleBuffer(_MATCHED)
    tp = TopicPartition(_TOPIC, partition)
    records = PartitionRecords(tp, MemoryRecords(data), [], 0, None, None, True, READ_UNCOMMITTED)
    FilteredRecords.adopt_filtered(
        records,
        bundle_buffer,
        record_filter,
        depth,
        data=memoryview(data),
        scan=batch_scan(record_filter, native=native, check_crcs=True),
    )
    bundles = (bundle_buffer.take(Position(*tp, first.offset)) for first in iter(records))
    return sum(item.records for bundle in bundles for item in bundle.items)


def _decompressed(data: bytes) -> int:
    decompressor, view, at = Decompressor(), memoryview(data), 0
    while (header := batches.batch_header(view, at)) is not None:
        batches.check_crc(view, header)
        decompressor.decompress(header.section(view), header.codec)
        at = header.end
    return 0


def measured(work: dict[str, Callable[[], int]], rounds: int) -> Iterator[tuple[str, float, int]]:
    """Yield each work's least CPU seconds of some rounds in turn, and what it returned."""
    least = dict.fromkeys(work, float("inf"))
    answers = dict.fromkeys(work, 0)
    for _ in range(rounds):
        for name, function in work.items():
            began = time.process_time()
            answers[name] = function()
            least[name] = min(least[name], time.process_time() - began)
    for name, seconds in least.items():
        yield name, seconds, answers[name]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.many_rules",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rules", type=int, nargs="+", default=[1, 10, 100, 241])
    parser.add_argument("--indices", choices=("every", "mixed"), default="every")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--share", type=float, default=0.001, help="share of candidates")
    parser.add_argument("--terms", type=int, default=0, help="terms of a broad rule")
    parser.add_argument("--size", type=float, default=2.4, help="kilobytes of an event")
    parser.add_argument("--depth", choices=("batch", "record", "event"), default="batch")
    parser.add_argument("--native", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    corpus = Corpus(
        count=arguments.events,
        share=arguments.share,
        terms=arguments.terms,
        size=arguments.size,
    )
    data = fetched(corpus)
    settings = Settings.model_validate({"stream": {"native": arguments.native}})
    depth = Depth[arguments.depth.upper()]
    work: dict[str, Callable[[], int]] = {"decompression": lambda: _decompressed(data)}
    for count in arguments.rules:
        rules = rule_set(count, indices=arguments.indices)
        record_filter = MatchFilter(settings, rules, Metrics())
        numbers = itertools.count()
        work[f"{count} rules"] = lambda f=record_filter, n=numbers: passed(
            data, f, depth, next(n), native=uses_native(settings)
        )
    first = 0.0
    for name, seconds, found in measured(work, arguments.rounds):
        first = first or (seconds if name != "decompression" else 0.0)
        ratio = f"{seconds / first:6.2f} times, {found} matches" if first else ""
        each = 1e6 * seconds / arguments.events
        sys.stdout.write(f"{name:14} {each:8.3f} us an event {ratio}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
