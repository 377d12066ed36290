"""What code that is not Python does to the rows of known terms is what `FirstSeen.observe` does.

Two workers read the same log: one judges each sighting by itself, the other leaves what it can to
`SeenAgain`, as the first seen stage does. Both have the same rows, clocks and verdicts after each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.first_seen import FirstSeen, FirstSeenVerdict
from pipeline.engine.first_seen_rows import decode_row, encode_row
from pipeline.engine.seen_again import SeenAgain
from pipeline.engine.tables import MemoryTable
from pipeline.engine.wire import (
    Change,
    Forget,
    Hold,
    Learn,
    Observation,
    Release,
    RuleRef,
    Source,
    decode_observation_or_change,
    encode,
)
from pipeline.errors import DecodeError, StateError
from tests.scans import KINDS

pytestmark = list(KINDS[1].marks)

HOUR = 3_600_000
HISTORIES = ["ab" * 8, "cd" * 8]
RULES = [
    RuleRef("r", "Rule", 1, "low", 21, 100, 300_000, ("process.executable",)),
    RuleRef("r", "Rule \u00e4", 2, "low", 21, 100, 300_000, ("process.executable", "host.id")),
    RuleRef('q"\\', "Rule", 1, "low", 21, 100, 300_000, ("process.executable",)),
]
TERMS: list[tuple[Any, ...]] = [
    ("a.exe",),
    ("b.exe",),
    (r"C:\a\b.exe", "h"),
    ('say "x"',),
    ("\u00e4.exe",),
    ("tab\t\x7f",),
    (5, True),
    (1.5,),
]
EVENTS = [b'{"a":1}', b'{"a": {"b": [1, "x"]}}', b'{"a":1,"a":2}', b'{"a":1e9}', b"{}"]
IDS = ["e", "", "\u00e4", 'a"b']

observations = st.builds(
    Observation,
    rule=st.sampled_from(RULES),
    history=st.sampled_from(HISTORIES),
    window_ms=st.sampled_from([HOUR, HOUR, 2 * HOUR]),
    terms=st.sampled_from(TERMS[:2] * 3 + TERMS),
    time_ms=st.integers(0, 6).map(lambda half: half * HOUR // 2)
    | st.sampled_from([-5, 253_402_300_799_999]),
    event_id=st.sampled_from(IDS),
    alert_id=st.just("0" * 40),
    source=st.builds(Source, st.just("t"), st.integers(0, 2), st.integers(0, 9), st.just(-1)),
    event=st.sampled_from(EVENTS).map(msgspec.Raw),
    capped=st.sampled_from([False, False, True]),
    time_source=st.sampled_from(["@timestamp", "@timestamp", "record"]),
)
changes = st.one_of(
    st.builds(Hold, st.just("r"), st.sampled_from(HISTORIES)),
    st.builds(Release, st.just("r"), st.sampled_from(HISTORIES)),
    st.builds(Forget, st.just("r"), st.sampled_from(HISTORIES)),
    st.builds(
        Learn, st.just("r"), st.sampled_from(HISTORIES), st.just(HOUR), st.just(("a.exe",)),
        st.just(0), st.integers(0, 3 * HOUR),
    ),
)  # fmt: skip
envelopes = st.one_of(observations, observations, observations, observations, changes)


def plain(terms: tuple[Any, ...], time_ms: int) -> Observation:
    source, event = Source("t", 0, 0, 0), msgspec.Raw(b"{}")
    return Observation(
        RULES[0], HISTORIES[0], HOUR, terms, time_ms, "e", "i", source, event, False, "@timestamp"
    )


@dataclass
class Rec:
    """A record of the observations topic, as it was fetched."""

    key: bytes | None
    value: bytes | None
    offset: int


def record(envelope: Observation | Change, offset: int) -> Rec:
    key = envelope.key() if isinstance(envelope, Observation | Learn) else b"changes"
    return Rec(key, encode(envelope), offset)


class Worker:
    """Judges by a table of its own."""

    def __init__(self, *, native: bool) -> None:
        self.table = MemoryTable()
        self.start(native=native)

    def start(self, *, native: bool) -> None:
        self.first_seen = FirstSeen(self.table)
        self.again = SeenAgain() if native else None
        self.native = 0

    def handle(self, records: list[Rec], committed: int) -> list[object]:
        """Return what is said of each record; None where it is known."""
        said: list[object] = []
        while len(said) < len(records):
            if self.again is not None:
                at = len(said)
                count = self.again.observe(self.first_seen, self.table, records, at, committed)
                said += [None] * count
                self.native += count
                if len(said) == len(records):
                    break
            said.append(self._judge(records[len(said)], committed))
        return said

    def _judge(self, one: Rec, committed: int) -> object:
        try:
            envelope = decode_observation_or_change(one.value or b"")
        except DecodeError as error:
            return str(error)
        if isinstance(envelope, Observation):
            if self.again is not None:
                self.again.note_opening(envelope)
            try:
                sighting = self.first_seen.observe(envelope, one.offset, committed)
            except StateError:
                return "damaged"
            known = not (sighting.new or sighting.repeated or sighting.held)
            return None if known else sighting
        if isinstance(envelope, Learn):
            return self.first_seen.learn(envelope, one.offset, committed)
        change: Any = {Hold: self.first_seen.hold, Forget: self.first_seen.forget}.get(
            type(envelope), self.first_seen.release
        )
        arguments = (envelope, one.offset, committed)
        change(*(arguments[:2] if isinstance(envelope, Release) else arguments))
        return "changed"

    @property
    def state(self) -> tuple[list[tuple[bytes, bytes]], int | None]:
        return sorted(self.table.items()), self.first_seen.clock.latest_ms


def both_handle(workers: tuple[Worker, Worker], records: list[Rec], committed: int) -> None:
    python, native = workers
    assert native.handle(records, committed) == python.handle(records, committed)
    assert native.state == python.state


@settings(max_examples=400)
@given(st.lists(envelopes, min_size=5, max_size=40), st.data())
def test_both_ways_do_the_same(log: list[Observation | Change], data: Any) -> None:
    workers = Worker(native=False), Worker(native=True)
    records = [record(envelope, offset) for offset, envelope in enumerate(log)]
    at = committed = 0
    while at < len(records):
        end = data.draw(st.integers(at + 1, len(records)))
        both_handle(workers, records[at:end], committed)
        at, committed = end, data.draw(st.integers(committed, end))
        if data.draw(st.sampled_from([False, False, True])):  # a restart, and a replay
            for worker, native in zip(workers, (False, True), strict=True):
                worker.start(native=native)
            at = committed
            if data.draw(st.booleans()):
                break


@settings(max_examples=400)
@given(observations, st.data())
def test_what_is_edited_is_accepted_only_where_it_says_the_same(
    observation: Observation, data: Any
) -> None:
    workers = Worker(native=False), Worker(native=True)
    first = record(observation, 1)
    both_handle(workers, [first, record(observation, 2), record(observation, 3)], 0)
    value = bytearray(first.value or b"")
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(0, len(value) - 1))
        edit = data.draw(st.sampled_from([b"", b"0", b"9", b'"', b"\\", b",", b"}", b" ", b"\xff"]))
        value[place : place + data.draw(st.integers(0, 1))] = edit
    edited = Rec(first.key, bytes(value), 4)
    python = workers[0]._judge(edited, 0)

    # The row of another key is none of the one under which the record stands.
    said = workers[1].handle([edited], 0)

    assert said == [python]
    assert workers[1].state == workers[0].state


@settings(max_examples=300)
@given(
    st.builds(
        dict,
        first_ms=st.integers(-(2**63), 2**63 - 1),
        last_ms=st.one_of(st.integers(0, 9 * HOUR), st.integers(-(2**63), 2**63 - 1)),
        count=st.one_of(st.integers(0, 3), st.integers(-(2**63), 2**64 - 1)),
        offset=st.one_of(st.integers(-2, 9), st.integers(-(2**63), 2**64 - 1)),
        window_ms=st.integers(0, 2**64 - 1),
        behind_ms=st.one_of(st.just(0), st.integers(-(2**63), 2**63 - 1)),
        stamps=st.lists(
            st.tuples(st.integers(0, 9), st.none() | st.integers(-(2**63), 2**63 - 1)), max_size=20
        ).map(lambda stamps: tuple(sorted(stamps, key=lambda stamp: stamp[0]))),
    ),
    st.sampled_from(TERMS),
)
def test_rows_of_every_size_are_rewritten_alike(row: dict[str, Any], terms: tuple[Any]) -> None:
    workers = Worker(native=False), Worker(native=True)
    observation = plain(terms, 2 * HOUR)
    both_handle(workers, [record(observation, 0), record(observation, 1)], 0)
    for worker in workers:
        key = observation.key()
        kept = decode_row(worker.table.get(key) or b"")
        worker.table.put(key, encode_row(msgspec.structs.replace(kept, **row)))

    said = []
    for worker in workers:
        try:
            said.append(worker.handle([record(observation, 10)], 5))
        except OverflowError as error:  # of a number that no row can hold
            said.append([type(error)])
    assert said[0] == said[1]
    assert workers[0].state == workers[1].state


def test_nearly_all_that_is_known_is_not_left_to_python() -> None:
    worker = Worker(native=True)
    observation = plain(("a.exe",), 0)

    said = worker.handle([record(observation, offset) for offset in range(20)], 0)

    assert isinstance(said[0], FirstSeenVerdict)
    assert said[1:] == [None] * 19
    assert worker.native == 18  # the second one says how observations of the rule begin


def test_after_a_row_that_is_damaged_it_goes_on() -> None:
    worker = Worker(native=True)
    observation = plain(("a.exe",), 0)
    worker.first_seen.clock.latest_ms = 2**63 + 5

    assert worker.again is not None
    assert (
        worker.again.observe(worker.first_seen, worker.table, [record(observation, 0)], 0, 0) == 0
    )
