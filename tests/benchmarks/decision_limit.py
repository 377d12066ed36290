"""What a durable decision takes of libraries alone: a limit for a worker that is written in Python.

    python -m tests.benchmarks.decision_limit [--terms 1000000] [--decisions 50000]

A decision reads an event, names its term, sends the sighting to where the term's row is, reads it there,
and reads, writes and logs the row. Here each of these steps is done in the cheapest way that the worker's
libraries have, in one process and for 500 events at once: without a rule, an alert, a socket, an event
loop or an acknowledgement. For each step: microseconds of CPU a decision.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec
import orjson
import rocksdict
import zstandard
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from pipeline.config import Settings
from pipeline.engine.first_seen_rows import ROW_FORMAT, Row
from pipeline.engine.wire import Observation, RuleRef, Source
from pipeline.stream.store import SharedMemoryOptions, StoreOptions
from tests.benchmarks.command import command_parser, tell
from tests.benchmarks.generator import Corpus, events

_TOGETHER = 500
_BATCH_BYTES = 8 << 20
_RULE = RuleRef("rule", "A rule", 1, "medium", 47, 100, 300_000, ("host.id", "process.executable"))
_TIME_MS = 1_772_438_400_000
_WINDOW_MS = 14 * 86_400_000


class Steps:
    """What each step has taken so far."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.seconds[name] += time.process_time() - began


class Decisions:
    """Takes decisions on terms of which a table knows some number."""

    def __init__(self, folder: Path, terms: int) -> None:
        state = Settings().state
        options = StoreOptions(state.block_cache_bytes, state.write_buffer_bytes)
        self._table = SharedMemoryOptions(options).open(folder)
        self._terms = terms
        self._random = random.Random(1)
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._decompressor = zstandard.ZstdDecompressor()
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(Observation).decode
        self._encode_row = msgspec.msgpack.Encoder().encode
        self._decode_row = msgspec.msgpack.Decoder(Row).decode
        self.steps = Steps()
        for first in range(0, terms, _TOGETHER):
            keys = map(_key, range(first, min(terms, first + _TOGETHER)))
            self._write([(key, self._encode_row(_row(0))) for key in keys])

    def take(self, values: Sequence[bytes]) -> None:
        """Take one decision for each event."""
        step = self.steps
        fetched = self._batch([(b"", value) for value in values])
        with step("read the event"):
            values = self._records(fetched)
        with step("decode it"):
            documents = [orjson.loads(value) for value in values]
        with step("hash its term"):
            for document in documents:
                terms = document["host"]["id"], document["process"]["executable"]
                sha256(orjson.dumps(terms)).digest()
        # Which term an event has was not known when it was made.
        numbers = [self._random.randrange(self._terms) for _ in values]
        keys = [_key(number) for number in numbers]
        with step("encode the sighting"):
            sent = [self._encode(_sighting(*each)) for each in zip(documents, values, strict=True)]
        with step("write its batch"):
            sighted = self._batch(list(zip(keys, sent, strict=True)))
        with step("read it there"):
            values = self._records(sighted)
        with step("decode the sighting"):
            for value in values:
                self._decode(value)
        with step("read its row"):
            rows = self._table.get(keys)
        with step("decode and encode the row"):
            for row in rows:
                self._decode_row(row)
            changes = [(key, self._encode_row(_row(1))) for key in keys]
        with step("write the row"):
            self._write(changes)
        with step("write the changelog"):
            self._batch(changes)

    def _write(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in rows:
            batch.put(key, value)
        self._table.write(batch)

    def _batch(self, records: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Write a batch as aiokafka does, and compress its records."""
        builder = DefaultRecordBatchBuilder(
            magic=2,
            compression_type=0,
            is_transactional=0,
            producer_id=-1,
            producer_epoch=0,
            base_sequence=0,
            batch_size=_BATCH_BYTES,
        )
        for number, (key, value) in enumerate(records):
            builder.append(number, _TIME_MS, key, value, [])
        return self._compressor.compress(bytes(builder.build()))

    def _records(self, compressed: bytes) -> list[bytes]:
        batch = DefaultRecordBatch(self._decompressor.decompress(compressed))
        return [record.value for record in batch]


def _key(number: int) -> bytes:
    return sha256(b"%d" % number).digest()[:24]


def _row(offset: int) -> Row:
    terms = "f1ea6613-217d-7c8f-f307-23c551e1f764", r"C:\Users\ann\AppData\Local\Temp\tool.exe"
    return Row(ROW_FORMAT, _RULE.id, terms, _TIME_MS, _TIME_MS, 1, offset, (), _WINDOW_MS)


def _sighting(document: dict[str, dict[str, str]], value: bytes) -> Observation:
    return Observation(
        rule=_RULE,
        history="0011223344556677",
        window_ms=_WINDOW_MS,
        terms=(document["host"]["id"], document["process"]["executable"]),
        time_ms=_TIME_MS,
        event_id=document["event"]["id"],
        alert_id="0" * 40,
        source=Source("events", 0, 0, _TIME_MS),
        event=msgspec.Raw(value),
        time_source="@timestamp",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and tell the figures."""
    parser = command_parser("decision_limit", __doc__)
    parser.add_argument("--terms", type=int, default=1_000_000, help="terms that are known")
    parser.add_argument("--decisions", type=int, default=50_000, help="how many are taken")
    options = parser.parse_args(arguments)
    count = options.decisions
    values = list(events(Corpus(count=count, size=1.0, distinct=count)))
    with tempfile.TemporaryDirectory() as folder:
        decisions = Decisions(Path(folder) / "table", options.terms)
        for first in range(0, count, _TOGETHER):
            decisions.take(values[first : first + _TOGETHER])
    taken = {name: seconds / count * 1e6 for name, seconds in decisions.steps.seconds.items()}
    tell(
        {
            "terms": options.terms,
            "decisions": count,
            "microseconds": {name: round(each, 2) for name, each in taken.items()},
            "together": round(sum(taken.values()), 1),
            "decisions_per_cpu_second": round(1e6 / sum(taken.values())),
        },
        options.json,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
