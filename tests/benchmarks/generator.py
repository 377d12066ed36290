"""Library events by the million: the shape, the size and the entropy of a real fleet's, by seed.

    python -m tests.benchmarks.generator --count 3                         NDJSON on standard output
    python -m tests.benchmarks.generator --count 1000000 --bootstrap HOST:PORT --topic NAME
                                         [--codec zstd] [--size 2.4] [--share 0.001] [--seed 1]

An event is what Elastic Defend 8.18 writes to Kafka for a loaded library: 100 of them, of many
hosts, compress 5 to 8 times under zstd. A *candidate* loads the PowerShell engine; half of the
candidates match the built-in rule, the others are excluded by signer or path. The same arguments
give the same bytes, and `truth` tells without reading them which events are which.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import accumulate, islice
from typing import Any

from confluent_kafka import Producer

from tests.clients import client_config, create_topic

PARTITIONS = 4
BATCH_RECORDS = 100
NEEDLE = b"System.Management.Automation"
START_SECONDS = 1_772_438_400  # 2026-03-02T08:00:00Z
SIZES = (1.0, 2.4, 4.0)
CODECS = ("lz4", "zstd")

_HOSTS = 400
_INSTANCES_PER_HOST = 6
_LIBRARIES = 700
_ENGINES = ("System.Management.Automation.dll", "System.Management.Automation.ni.dll")
_PROGRAMS = (
    *("svchost.exe", "wermgr.exe", "conhost.exe", "msedge.exe", "WmiPrvSE.exe", "taskhostw.exe"),
    *("backgroundTaskHost.exe", "consent.exe", "netsh.exe", "RuntimeBroker.exe", "explorer.exe"),
    *("SearchIndexer.exe", "MsMpEng.exe", "OUTLOOK.EXE", "Teams.exe", "cmd.exe", "schtasks.exe"),
)
_SYSTEM = r"C:\Windows\System32"


@dataclass(frozen=True, slots=True)
class Corpus:
    """What decides every byte of a topic.

    Attributes:
        count: number of events.
        seed: of everything random.
        size: mean kilobytes of an event, one of `SIZES`.
        share: share of candidates, 0 to 1.
        distinct: if not 0, every event is a match: the first `distinct` events bring a new term
            each, of the rest one in ten does and the others repeat an earlier one (state benchmark).
        terms: if not 0, a rule is broad: every candidate matches, the first `terms` of them with a
            new term each and the others with one of these; and the fleet is a large one.
        codec: compression of the topic.
    """

    count: int
    seed: int = 1
    size: float = 2.4
    share: float = 0.001
    distinct: int = 0
    terms: int = 0
    codec: str = "zstd"

    @property
    def name(self) -> str:
        """Return a topic name that says what is in it."""
        kind = f"distinct{self.distinct}" if self.distinct else f"share{self.share:g}"
        kind += f"-terms{self.terms}" if self.terms else ""
        return f"bench-{self.codec}-{self.size:g}k-{kind}-{self.count}-{self.seed}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The decisions of one event that its truth rests on."""

    candidate: bool
    matching: bool
    term: int


@dataclass(frozen=True)
class Truth:
    """What every contestant has to find: cumulated by partition, so that any prefix has its own."""

    candidates: list[list[int]]
    matches: list[list[int]]

    def candidates_until(self, positions: dict[int, int]) -> int:
        """Return how many candidates lie below these offsets."""
        return sum(self.candidates[partition][offset] for partition, offset in positions.items())

    def matches_until(self, positions: dict[int, int]) -> int:
        """Return how many events below these offsets match the rule."""
        return sum(self.matches[partition][offset] for partition, offset in positions.items())


def partition_of(number: int, partitions: int = PARTITIONS) -> int:
    """Return the partition of an event: runs of a hundred, so that a batch holds a hundred."""
    return number // BATCH_RECORDS % partitions


def choices(corpus: Corpus) -> Iterator[Choice]:
    """Yield the decisions of every event; their generator is apart from that of the bytes."""
    rng = random.Random(f"choices {corpus.seed} {corpus.share} {corpus.distinct}")
    terms = 0
    for number in range(corpus.count):
        if corpus.distinct:
            if number < corpus.distinct or rng.random() < 0.1:
                term, terms = terms, terms + 1
            else:
                term = rng.randrange(terms)
            yield Choice(candidate=True, matching=True, term=term)
        elif corpus.terms:
            hit, term = rng.random() < corpus.share, rng.randrange(corpus.terms)
            if hit and terms < corpus.terms:
                term, terms = terms, terms + 1
            yield Choice(candidate=hit, matching=hit, term=term)
        elif rng.random() < corpus.share:
            matching = rng.random() < 0.5
            yield Choice(candidate=True, matching=matching, term=rng.randrange(5000))
        else:
            yield Choice(candidate=False, matching=False, term=0)


def truth(corpus: Corpus, partitions: int = PARTITIONS) -> Truth:
    """Return the truth of a corpus."""
    candidates: list[list[int]] = [[] for _ in range(partitions)]
    matches: list[list[int]] = [[] for _ in range(partitions)]
    for number, choice in enumerate(choices(corpus)):
        partition = partition_of(number, partitions)
        candidates[partition].append(choice.candidate)
        matches[partition].append(choice.matching)
    return Truth(
        [list(accumulate(flags, initial=0)) for flags in candidates],
        [list(accumulate(flags, initial=0)) for flags in matches],
    )


def events_until_known(corpus: Corpus) -> int:
    """Return after how many events the `terms` of a broad rule are known."""
    if not corpus.terms:
        return 0
    matching = (number for number, choice in enumerate(choices(corpus), 1) if choice.matching)
    return next(islice(matching, corpus.terms - 1, None))


def distinct_terms(corpus: Corpus) -> int:
    """Return how many different terms a corpus of the state benchmark holds."""
    return 1 + max(choice.term for choice in choices(corpus))


def events(corpus: Corpus) -> Iterator[bytes]:
    """Yield the events, in order."""
    fleet = _Fleet(random.Random(f"bytes {corpus.seed} {corpus.size}"), corpus.size)
    step = 0.9 if corpus.distinct else 0.000_01 if corpus.terms else 0.005
    for number, choice in enumerate(choices(corpus)):
        yield fleet.event(number, START_SECONDS + number * step, choice)


class _Fleet:
    """Hosts, their running processes and the libraries they load, as JSON ready to be joined."""

    def __init__(self, rng: random.Random, size: float) -> None:
        self._rng = rng
        self._size = size
        self._hosts = [self._host(number) for number in range(_HOSTS)]
        self._libraries = [self._library(number) for number in range(_LIBRARIES)]
        # A few libraries are loaded by nearly everything: a Zipf-like distribution.
        weights = [1 / (rank + 8) for rank in range(_LIBRARIES)]
        self._picks = rng.choices(range(_LIBRARIES), weights, k=1 << 16)
        self._programs = [(name, self._hash()) for name in _PROGRAMS]
        self._engines = [self._engine(name) for name in _ENGINES]
        self._bursts = [0] * 8
        self._instances = [
            self._instance(host) for host in range(_HOSTS) for _ in range(_INSTANCES_PER_HOST)
        ]

    def event(self, number: int, at: float, choice: Choice) -> bytes:
        rng = self._rng
        draw = rng.getrandbits(48)
        # A process loads its libraries in bursts, many processes at once.
        if draw & 0xF < 5:
            which = self._bursts[draw >> 8 & 7]
        else:
            which = self._bursts[draw >> 8 & 7] = rng.randrange(len(self._instances))
        if draw >> 40 < 12:  # one in twenty: a process ended, another one started
            self._instances[which] = self._instance(which // _INSTANCES_PER_HOST)
        host, process, user = self._instances[which]
        if choice.candidate:
            library = self._engines[draw >> 16 & 1]
            host, process, user = self._loader(choice)
        else:
            library = self._libraries[self._picks[draw >> 24 & 0xFFFF]]
        head, agent, tail = self._hosts[host]
        fraction = int(at % 1 * 10_000_000 + (draw & 0xFFF)) % 10_000_000
        second = _clock(int(at))
        stamp = f"{second}.{fraction:07d}Z"
        serial = base64.b64encode((number * 977).to_bytes(6, "big")).decode()
        uptime = draw >> 20 & 0xFFFFF
        extra = (
            f'"Ext":{{"load_index":{1 + (draw >> 30 & 7)},"size":{(draw >> 17 & 0xFFFFF) + 16384},'
            f'"relative_file_creation_time":{(draw >> 3 & 0xFFFFFFF) / 10},'
            f'"relative_file_name_modify_time":{(draw >> 11 & 0xFFFFFFF) / 10}}},'
            if self._size > 1
            else ""
        )
        elastic = module = message = ""
        if self._size > 1:
            elastic = f'"elastic":{{"agent":{{"id":"{head}"}}}},'
            module = '"module":"endpoint","outcome":"unknown",'
            message = '"message":"Endpoint DLL load event",'
        return (
            f'{{"@timestamp":"{stamp}","agent":{agent},"data_stream":{{"dataset":'
            '"endpoint.events.library","namespace":"default","type":"logs"},'
            f'"dll":{{{extra}{library}}},"ecs":{{"version":"8.10.0"}},{elastic}'
            f'"event":{{"action":"load","category":["library"],"created":"{stamp}","dataset":'
            f'"endpoint.events.library","id":"{tail}{serial}","kind":"event",{module}'
            f'"sequence":{number % 977 * 1021 + host},"type":["start"]}},'
            f"{self._host_json[host]},{message}"
            f'"process":{{{process},"uptime":{uptime}}},{user}}}'
        ).encode()

    # -- what an event is joined from

    def _host(self, number: int) -> tuple[str, str, str]:
        identity = self._uuid()
        if number == 0:
            self._host_json: list[str] = []
        host: dict[str, Any] = {
            "id": self._uuid(),
            "name": f"{self._rng.choice(('ws', 'lt', 'srv'))}-{self._rng.randrange(16**6):06x}",
            "os": {"type": "windows"},
        }
        if self._size > 2.4:
            host |= {
                "architecture": "x86_64",
                "hostname": host["name"],
                "ip": [f"10.{self._rng.randrange(256)}.{self._rng.randrange(256)}.7", "127.0.0.1"],
                "mac": ["-".join(f"{self._rng.randrange(256):02x}" for _ in range(6))],
            }
            host["os"] |= {
                "Ext": {"variant": "Windows 11 Enterprise"},
                "family": "windows",
                "full": "Windows 11 Enterprise 23H2 (10.0.22631.3447)",
                "kernel": "23H2 (10.0.22631.3447)",
                "name": "Windows",
                "platform": "windows",
                "version": "23H2 (10.0.22631.3447)",
            }
        self._host_json.append(f'"host":{_dumps(host)}')
        agent = {"id": identity, "type": "endpoint", "version": "8.18.3"}
        return identity, _dumps(agent), self._token(12)

    def _library(self, number: int) -> str:
        name = f"{self._rng.choice(('ms', 'win', 'api', 'net', 'core'))}{self._word()}{number}.dll"
        return self._library_json(name, rf"{_SYSTEM}\{name}", self._microsoft())

    def _engine(self, name: str) -> str:
        folder = r"C:\Windows\assembly\NativeImages_v4.0.30319_64\System.Manaa57fc8cc#"
        path = rf"{folder}\{self._rng.randbytes(16).hex()}\{name}"
        return self._library_json(name, path, self._microsoft())

    def _library_json(self, name: str, path: str, signature: dict[str, Any]) -> str:
        library: dict[str, Any] = {"name": name, "path": path, "code_signature": signature}
        if self._size > 1:
            library["hash"] = {"sha256": self._hash()}
            library["pe"] = {
                "file_version": f"10.0.{self._rng.randrange(30000)}.{self._rng.randrange(5000)}",
                "imphash": self._rng.randbytes(16).hex(),
                "original_file_name": name,
            }
        if self._size > 2.4:
            library["hash"] |= {
                "md5": self._rng.randbytes(16).hex(),
                "sha1": self._rng.randbytes(20).hex(),
            }
        return _dumps(library)[1:-1]

    def _instance(self, host: int) -> tuple[int, str, str]:
        name, digest = self._rng.choice(self._programs)
        user = _dumps(
            {
                "domain": "NT AUTHORITY" if self._rng.random() < 0.7 else "CORP",
                "id": f"S-1-5-21-{self._rng.getrandbits(31)}-{1000 + self._rng.randrange(60)}",
                "name": f"{self._word()}{self._rng.randrange(100)}",
            }
        )
        process = self._process(host, name, rf"{_SYSTEM}\{name}", self._microsoft(), digest)
        return host, process, f'"user":{user}'

    def _loader(self, choice: Choice) -> tuple[int, str, str]:
        """The process of a candidate: one that the built-in rule reports, or one that it excludes."""
        term = choice.term
        host = term % _HOSTS
        if choice.matching:
            name = f"tool-{term}.exe"
            path = rf"C:\Users\ann\AppData\Local\Temp\{name}"
            signature: dict[str, Any] = {"exists": False}
        elif term % 2:
            name = "powershell.exe"
            path = rf"{_SYSTEM}\WindowsPowerShell\v1.0\{name}"
            signature = self._microsoft()
        else:
            name = f"agent-{term % 50}.exe"
            path = rf"C:\Program Files\Vendor\{name}"
            signature = {
                "exists": True,
                "status": "trusted",
                "subject_name": "Vendor, Inc.",
                "trusted": True,
            }
        user = _dumps(
            {"domain": "CORP", "id": f"S-1-5-21-7-{term % 977}", "name": f"u{term % 977}"}
        )
        process = self._process(host, name, path, signature, self._hash())
        return host, process, f'"user":{user}'

    def _process(
        self, host: int, name: str, path: str, signature: dict[str, Any], digest: str
    ) -> str:
        # A longer chain of parents is where a large event's bytes come from.
        ancestors = {1.0: 0, 2.4: 8, 4.0: 22}[self._size]
        process: dict[str, Any] = {
            "code_signature": signature,
            "entity_id": self._entity(host),
            "executable": path,
            "name": name,
            "pid": self._rng.randrange(4, 30_000, 4),
        }
        if self._size > 1:
            process["hash"] = {"sha256": digest}
            process["Ext"] = {
                "ancestry": [self._entity(host) for _ in range(ancestors)],
                "code_signature": [signature],
                "protection": "",
            }
        return _dumps(process)[1:-1]

    @staticmethod
    def _microsoft() -> dict[str, Any]:
        return {
            "exists": True,
            "status": "trusted",
            "subject_name": "Microsoft Windows",
            "trusted": True,
        }

    def _entity(self, host: int) -> str:
        # Defend's entity ids are base64 of "agent id - pid - start time".
        start = 1_772_438_400 - self._rng.getrandbits(22)
        text = f"{self._hosts[host][0]}-{self._rng.randrange(4, 30_000, 4)}-{start}"
        return base64.b64encode(text.encode()).decode()

    def _uuid(self) -> str:
        text = self._rng.randbytes(16).hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _hash(self) -> str:
        return self._rng.randbytes(32).hex()

    def _token(self, size: int) -> str:
        return base64.b64encode(self._rng.randbytes(size)).decode()

    def _word(self) -> str:
        return "".join(self._rng.choices("abcdefghiklmnoprstuvwz", k=6))


@lru_cache(maxsize=4)
def _clock(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def fill(
    bootstrap: str, topic: str, corpus: Corpus, partitions: int = PARTITIONS, first: int = 0
) -> None:
    """Produce the corpus into an existing topic, in batches of about a hundred records.

    Args:
        bootstrap: the broker.
        topic: its name.
        corpus: what to produce.
        partitions: of the topic.
        first: number of the first event; those before it are there already.

    Raises:
        RuntimeError: a record was not acknowledged.
    """
    failed: list[str] = []
    config: dict[str, Any] = {
        **client_config(bootstrap),
        "compression.type": corpus.codec,
        "batch.num.messages": BATCH_RECORDS,
        # A batch is closed when it is full, not by the clock.
        "linger.ms": 1000,
        "batch.size": 8 << 20,
        "enable.idempotence": True,
        "queue.buffering.max.messages": 40_000,
        "message.timeout.ms": 120_000,
    }
    producer = Producer(config)

    def delivered(error: Any, _: Any) -> None:
        if error is not None:
            failed.append(str(error))

    for number, value in enumerate(events(corpus)):
        if number < first:
            continue
        partition = partition_of(number, partitions)
        while True:
            try:
                producer.produce(topic, value, partition=partition, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.05)
        if number % 1000 == 0:
            producer.poll(0)
    left = producer.flush(120)
    if left or failed:
        raise RuntimeError(f"{left} records of {topic} not acknowledged, failed: {failed[:3]}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.generator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=1000, help="number of events")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=float, default=2.4, choices=SIZES, help="kilobytes")
    parser.add_argument("--share", type=float, default=0.001, help="share of candidates")
    parser.add_argument("--distinct", type=int, default=0, help="every event matches: terms first")
    parser.add_argument("--terms", type=int, default=0, help="terms of a broad rule")
    parser.add_argument("--codec", default="zstd", choices=(*CODECS, "none"))
    parser.add_argument("--bootstrap", help="produce into this cluster instead of printing")
    parser.add_argument("--topic", help="default: named after the corpus")
    parser.add_argument("--partitions", type=int, default=PARTITIONS)
    parser.add_argument("--first", type=int, default=0, help="events before it are left out")
    parser.add_argument("--no-create", action="store_true", help="the topic exists")
    arguments = parser.parse_args()
    corpus = Corpus(
        count=arguments.count,
        seed=arguments.seed,
        size=arguments.size,
        share=arguments.share,
        distinct=arguments.distinct,
        terms=arguments.terms,
        codec=arguments.codec,
    )
    if arguments.bootstrap:
        topic = arguments.topic or corpus.name
        if not arguments.no_create:
            create_topic(arguments.bootstrap, topic, partitions=arguments.partitions)
        fill(arguments.bootstrap, topic, corpus, arguments.partitions, arguments.first)
        sys.stdout.write(f"{topic}\n")
    else:
        for event in islice(events(corpus), arguments.first, None):
            sys.stdout.buffer.write(event + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
