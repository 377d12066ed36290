"""The depths at which records are dropped tell the same of the same input, on Apache Kafka.

`stream.filter_depth` says where a record that matches nothing is dropped: by a search of its whole
batch, by a search of its value, after it was decoded, or not before the agent. Here one topic is
read by five deployments, one at each depth and one without `firstseen-native`, and what they told
is compared.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Producer

from pipeline.embedded.process import wait_until
from tests.clients import SECONDS, Sent, client_config
from tests.deployment import Deployment, NewDeployment, WorkerProcess
from tests.events import NO_JSON, encode, library_event
from tests.group_offsets import all_committed
from tests.small_topics import small_topics

WAYS = {
    **{depth: {"FILTER_DEPTH": depth} for depth in ("batch", "record", "event", "agent")},
    "python": {"FILTER_DEPTH": "batch", "NATIVE": "off"},
}
"""By name, settings of the section ``stream``; natively where that is installed."""

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
LITERAL = b"System.Management.Automation.ni.dll"

HEADERS = [("trace", b"4bf92f35"), ("empty", b"")]


def escaped(event: bytes) -> bytes:
    """Return the same JSON with a letter of the literal written as an escape."""
    return event.replace(b"System.Management", rb"\u0053ystem.\u004danagement")


def match(number: int, executable: str) -> bytes:
    return encode(library_event(number=number, executable=executable))


def no_candidate(number: int) -> bytes:
    return encode(library_event(number=number, dll=f"lib{number}.dll"))


def candidate_without_match(number: int) -> bytes:
    """Return an event that holds the literal where no rule asks for it."""
    event = library_event(number=number, dll="other.dll")
    event["process"]["command_line"] = f"load {LITERAL.decode()}"
    return encode(event)


def without_id(executable: str) -> bytes:
    """Return an event whose alert is known by the position of its record."""
    event = library_event(executable=executable)
    del event["event"]["id"]
    return encode(event)


def records(codec: str, first: int) -> Iterator[Sent]:
    """Yield about thirty records of every kind, to be sent in one batch."""
    n = first
    yield from (Sent(no_candidate(n + i)) for i in range(8))
    yield Sent(match(n + 8, f"{codec}-1.exe"), headers=HEADERS, key=b"a key")
    yield Sent(candidate_without_match(n + 9))
    yield Sent(None, key=b"gone")
    yield Sent(b"")
    yield Sent(escaped(match(n + 10, f"{codec}-escaped.exe")))
    yield Sent(match(n + 11, "case.exe").replace(LITERAL, LITERAL.lower()))  # no match for it
    yield Sent(match(n + 12, f"{codec}-1.exe"))  # known by now
    yield Sent(without_id(f"{codec}-position.exe"), headers=HEADERS)
    joined = [no_candidate(n + 13), match(n + 14, f"{codec}-line.exe"), match(n + 15, "same.exe")]
    yield Sent(b"\n".join(joined))
    array = [match(n + 16, f"{codec}-array.exe"), no_candidate(n + 17)]
    yield Sent(b"[" + b",".join(array) + b"]")
    yield Sent(b"\n".join([match(n + 18, f"{codec}-beside.exe"), b'{"half": ']), headers=HEADERS)
    yield Sent(NO_JSON, headers=HEADERS)
    yield Sent(b"no JSON, and no literal either")
    yield from (Sent(no_candidate(n + 20 + i)) for i in range(8))


WITHOUT_LITERAL = 3 * len(CODECS)
"""Records of `records` that are no events and hold no literal: null, empty, no JSON."""


def send(stack: Deployment, sent: Iterable[Sent], *, codec: str) -> None:
    """Produce records as one batch, compressed with this codec."""
    producer = Producer(
        {
            **client_config(stack.broker.bootstrap),
            "compression.type": codec,
            "linger.ms": 2000,
            "acks": "all",
        }
    )
    _produce(producer, stack, sent)
    assert producer.flush(SECONDS) == 0


def transaction(stack: Deployment, sent: Iterable[Sent], *, codec: str, commit: bool) -> None:
    config = {
        **client_config(stack.broker.bootstrap),
        "compression.type": codec,
        "transactional.id": f"{stack.prefix}-{codec}-{commit}",
    }
    producer = Producer(config)
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    _produce(producer, stack, sent)
    producer.flush(SECONDS)
    if commit:
        producer.commit_transaction(SECONDS)
    else:
        producer.abort_transaction(SECONDS)


def _produce(producer: Producer, stack: Deployment, sent: Iterable[Sent]) -> None:
    for one in sent:
        producer.produce(
            stack.input, value=one.value, key=one.key, partition=0, headers=one.headers
        )


def fill(stack: Deployment) -> None:
    """Write the input: each codec plain, in a committed and in an aborted transaction."""
    for number, codec in enumerate(CODECS):
        send(stack, records(codec, 1_000 * number), codec=codec)
    for number, codec in enumerate(CODECS):
        aborted = [Sent(match(8_000 + number, f"aborted-{codec}.exe")), Sent(no_candidate(8_100))]
        transaction(stack, aborted, codec=codec, commit=False)
        committed = [Sent(match(9_000 + number, f"committed-{codec}.exe")), *aborted[1:]]
        transaction(stack, committed, codec=codec, commit=True)
    # A tail in which nothing stands that any rule needs.
    send(stack, (Sent(no_candidate(9_500 + n)) for n in range(20)), codec="zstd")


@dataclass(frozen=True)
class Told:
    """What a deployment made of the input; the moments of the work are left out."""

    alerts: dict[str, dict[str, Any]]
    dead_letters: list[tuple[tuple[tuple[str, bytes], ...], bytes, bytes]]
    outcomes: Counter[str]
    counters: Counter[str]

    @classmethod
    def of(cls, stack: Deployment, worker: WorkerProcess) -> Told:
        return cls(
            alerts={m.key().decode(): _alert(m.value()) for m in stack.read("alerts")},
            dead_letters=sorted(
                (_headers(m.headers()), m.key() or b"", m.value() or b"")
                for m in stack.read("dead_letters")
            ),
            outcomes=_series(worker, "firstseen_records_processed_total", by="outcome"),
            counters=sum((_series(worker, name) for name in SAME_COUNTERS), Counter()),
        )


SAME_COUNTERS = (
    "firstseen_records_consumed_total",
    "firstseen_rule_matches_total",
    "firstseen_observations_total",
    "firstseen_sightings_total",
    "firstseen_new_terms_total",
    "firstseen_alerts_total",
    "firstseen_alerts_overflow_total",
    "firstseen_events_without_tuple_total",
    "firstseen_events_future_total",
    "firstseen_events_untimed_total",
    "firstseen_rule_errors_total",
)


def _alert(value: bytes) -> dict[str, Any]:
    """Return an alert without the two fields that say when it was made."""
    alert: dict[str, Any] = json.loads(value)
    del alert["@timestamp"], alert["event"]["created"]
    return alert


def _headers(headers: list[tuple[str, bytes]] | None) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of a dead letter that do not say who wrote it and when."""
    own = {"firstseen.failed_at", "firstseen.group_id"}
    return tuple((name, value) for name, value in headers or () if name not in own)


def _series(worker: WorkerProcess, name: str, *, by: str | None = None) -> Counter[str]:
    """Return the series of a counter that are not zero, by one label or by all of them."""
    found: Counter[str] = Counter()
    for sample in worker.samples():
        if sample.name == name and sample.value:
            found[sample.labels[by] if by else f"{name}{sample.labels}"] += int(sample.value)
    return found


def test_the_same_input_gives_the_same_alerts_and_counts_in_every_way(
    kafka_deployment: NewDeployment, tmp_path
):
    settings = small_topics(tmp_path / "topics", 1)
    stacks = {
        way: kafka_deployment(
            settings={**settings, **{f"FIRSTSEEN_STREAM__{key}": own[key] for key in own}},
            input_partitions=1,
        )
        for way, own in WAYS.items()
    }
    source = stacks["batch"]
    for stack in stacks.values():
        stack.input = source.input
    fill(source)
    workers = {way: stack.start_worker() for way, stack in stacks.items()}
    for worker in workers.values():
        worker.wait_ready()
    for stack in stacks.values():
        assert wait_until(lambda s=stack: all_committed(s), seconds=60.0)

    told = {way: Told.of(stack, workers[way]) for way, stack in stacks.items()}
    first = told["batch"]
    executables = {alert["process"]["executable"] for alert in first.alerts.values()}
    assert executables == {
        "same.exe",
        *(f"{c}-{kind}.exe" for c in CODECS for kind in KINDS),
        *(f"committed-{c}.exe" for c in CODECS),
    }
    assert all(first.alerts == other.alerts for other in told.values())
    assert all(first.counters == other.counters for other in told.values())
    # How much is skipped unread is what a depth is about; whatever else becomes of a record is not.
    for way in ("python", "record", "agent"):
        assert first.outcomes == told[way].outcomes
        assert first.dead_letters == told[way].dead_letters
    check_that_all_is_decoded(first, told["event"])


KINDS = ("1", "escaped", "position", "line", "array", "beside")


def check_that_all_is_decoded(searched: Told, decoded: Told) -> None:
    """Check the depth that searches nothing: what is no event is told even without a literal."""
    assert decoded.outcomes["skipped"] == 0
    assert decoded.outcomes["matched"] == searched.outcomes["matched"]
    assert decoded.outcomes["dead_letter"] == searched.outcomes["dead_letter"] + WITHOUT_LITERAL
    assert decoded.outcomes.total() == searched.outcomes.total()
    assert [letter for letter in decoded.dead_letters if LITERAL in letter[2]] == (
        searched.dead_letters
    )
