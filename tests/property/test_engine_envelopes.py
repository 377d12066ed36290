"""Whatever stands in the topics between the stages: it is refused, or every stage can bear it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.engine.alert import build_alert
from pipeline.engine.first_seen import FirstSeen
from pipeline.engine.learning import LearningPeriods
from pipeline.engine.quota import Quota
from pipeline.engine.tables import MemoryTable
from pipeline.engine.wire import (
    CloseWindow,
    Forget,
    Hold,
    Learn,
    NewTerm,
    Observation,
    RuleRef,
    Source,
    decode_candidate,
    decode_observation_or_change,
    encode,
)
from pipeline.errors import DecodeError
from tests.events import encode as event_text
from tests.events import library_event

HISTORY = "ab" * 8
NOW_MS = 1_772_438_400_000
RULE = RuleRef("rule", "Rule", 1, "low", 21, 1, 300_000, ("host.id", "process.pid"))
SIGHTINGS = (
    Observation(
        RULE,
        HISTORY,
        86_400_000,
        ("h", 7),
        NOW_MS,
        "event",
        "alert",
        Source("t", 0, 0, NOW_MS),
        msgspec.Raw(event_text(library_event(number=1))),
    ),
    Learn("rule", HISTORY, 86_400_000, ("h", 7), NOW_MS, NOW_MS, 2),
    Forget("rule", HISTORY, HISTORY + "00" * 16),
    Hold("rule", HISTORY),
)
CANDIDATES = (
    NewTerm("alert", RULE, ("h", 7), NOW_MS, NOW_MS, msgspec.Raw(b'{"event":{}}'), HISTORY),
    CloseWindow(RULE, NOW_MS - NOW_MS % 300_000),
)

numbers = st.one_of(
    st.integers(),
    st.sampled_from([10**30, -(10**30), 2**63, 2**64, 2**62, -1, 0, 1.5, -1e308, 1e17]),
)
hostile = st.recursive(
    st.one_of(numbers, st.none(), st.booleans(), st.text(max_size=5), st.just("x" * 100_000)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["host", "process", "event", "a"]), inner, max_size=3),
    ),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = enumerate(value)
    for name, item in items:
        yield from places(item, (*path, name))


def changed(value: Any, path: tuple[Any, ...], put: Any) -> Any:
    if not path:
        return put
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(copy[path[0]], path[1:], put)
    return copy


@st.composite
def envelopes(draw: st.DrawFn, among: tuple[Any, ...]) -> bytes:
    """An envelope in which up to three values are others."""
    envelope = json.loads(encode(draw(st.sampled_from(among))))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(list(places(envelope))))
        envelope = changed(envelope, path, draw(hostile))
    return json.dumps(envelope, separators=(",", ":")).encode()


class Stages:
    """First seen and quota, on tables of their own."""

    def __init__(self) -> None:
        self.first_seen = FirstSeen(MemoryTable())
        self.quota = Quota(MemoryTable(), learning=LearningPeriods(60_000))
        self.offset = 0

    def sighting(self, value: bytes) -> None:
        self.offset += 1
        read = decode_observation_or_change(value)
        if isinstance(read, Learn):
            self.first_seen.learn(read, self.offset, 0)
        elif isinstance(read, Forget):
            self.first_seen.forget(read, self.offset, 0)
        elif isinstance(read, Hold):
            self.first_seen.hold(read, self.offset, 0)
        elif isinstance(read, Observation):
            found = self.first_seen.observe(read, self.offset, 0)
            if found.new:
                self.candidate(
                    encode(build_alert(read, found, None, created_ms=NOW_MS, ruleset_digest="d"))
                )

    def candidate(self, value: bytes) -> None:
        self.offset += 1
        read = decode_candidate(value)
        for now_ms in (NOW_MS, NOW_MS + 86_400_000):
            if isinstance(read, CloseWindow):
                decision = self.quota.close(read, self.offset, now_ms, 0)
            else:
                decision = self.quota.admit(read, self.offset, now_ms, 0)
            for output in decision.outputs:
                orjson.loads(output.value)


def learn(**values: str) -> bytes:
    fields = {"window_ms": "1", "terms": '["h",1]', "first_ms": "1", "last_ms": "1", "count": "1"}
    fields |= values
    pairs = "".join(f',"{name}":{value}' for name, value in fields.items())
    return f'{{"type":"learn","rule_id":"r","history":"{HISTORY}"{pairs}}}'.encode()


@given(st.lists(envelopes(SIGHTINGS), min_size=1, max_size=4))
@example([learn(count=str(10**30))])
@example([learn(window_ms=str(10**30))])
@example([learn(last_ms=str(10**30))])
@example([learn(terms=f"[{10**30}]")])
@example([b'{"rule":' * 5_000])
def test_a_sighting_is_refused_or_borne_by_all_stages(values: list[bytes]):
    stages = Stages()
    for value in values:
        with suppress(DecodeError):
            stages.sighting(value)


def each_number_too_large() -> Iterator[bytes]:
    """Each envelope, once with each of its numbers beyond what any row can hold."""
    for envelope in (*SIGHTINGS, *CANDIDATES):
        fields = json.loads(encode(envelope))
        for path in places(fields):
            found = fields
            for step in path:
                found = found[step]
            if type(found) is int:
                yield json.dumps(changed(fields, path, 10**23), separators=(",", ":")).encode()


@pytest.mark.parametrize("value", [*each_number_too_large()])
def test_no_number_of_an_envelope_is_too_large_for_the_stages(value: bytes):
    stages = Stages()

    with suppress(DecodeError):
        stages.candidate(value)
    with suppress(DecodeError):
        stages.sighting(value)


@given(st.lists(envelopes(CANDIDATES), min_size=1, max_size=4))
def test_a_candidate_is_refused_or_borne_by_the_quota(values: list[bytes]):
    stages = Stages()
    for value in values:
        with suppress(DecodeError):
            stages.candidate(value)


@given(st.sampled_from([*SIGHTINGS, *CANDIDATES]))
def test_what_the_stages_send_each_other_is_never_refused(envelope: Any):
    stages = Stages()

    if isinstance(envelope, NewTerm | CloseWindow):
        stages.candidate(encode(envelope))
    else:
        stages.sighting(encode(envelope))
