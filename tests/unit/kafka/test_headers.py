"""Dead letters: the record unchanged, the reason in headers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DecodeError
from pipeline.kafka.headers import (
    MAX_HEADER_BYTES,
    DeadLetter,
    encode_dead_letter,
    next_attempt,
    parse_dead_letter,
    requeue_headers,
)
from pipeline.record import Position

LETTER = DeadLetter(
    key=b"k",
    value=b"{",
    headers=(("trace", b"\x00\xff"), ("trace", b"2")),
    position=Position("logs", 3, 14),
    timestamp_ms=1_700_000_000_123,
    code="invalid_json",
    stage="decode",
    message="unexpected end of data",
    rule_id=None,
    group_id="firstseen",
    version="0.1.0",
    ruleset="abc",
    attempt=1,
    failed_at=datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC),
)
LIMITS = {"max_record_bytes": 1 << 20, "max_value_bytes": 65_536}

headers = st.lists(
    st.tuples(
        st.text(max_size=9).filter(lambda name: not name.startswith("firstseen.")),
        st.binary(max_size=9),
    ),
    max_size=5,
).map(tuple)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
letters = st.builds(
    DeadLetter,
    key=st.none() | st.binary(max_size=40),
    value=st.none() | st.binary(max_size=400),
    headers=headers,
    position=st.builds(Position, texts, st.integers(0, 99), st.integers(0, 2**60)),
    timestamp_ms=st.integers(-1, 2**45),
    code=texts,
    stage=texts,
    message=texts,
    rule_id=st.none() | texts,
    group_id=texts,
    version=texts,
    ruleset=texts,
    attempt=st.integers(1, 99),
    failed_at=st.datetimes(timezones=st.just(UTC)).map(
        lambda d: d.replace(microsecond=d.microsecond // 1000 * 1000)
    ),
    truncated=st.booleans(),
)


def parse(encoded):
    return parse_dead_letter(encoded.key, encoded.value, encoded.headers)


@given(letters)
def test_a_dead_letter_reads_back(letter):
    assert letter == parse(encode_dead_letter(letter, **LIMITS))


def test_the_headers_have_the_names_that_consumers_depend_on():
    encoded = encode_dead_letter(replace(LETTER, rule_id="r"), **LIMITS)

    assert (
        ("trace", b"\x00\xff"),
        ("trace", b"2"),
        ("firstseen.error.code", b"invalid_json"),
        ("firstseen.error.stage", b"decode"),
        ("firstseen.error.message", b"unexpected end of data"),
        ("firstseen.error.rule_id", b"r"),
        ("firstseen.original.topic", b"logs"),
        ("firstseen.original.partition", b"3"),
        ("firstseen.original.offset", b"14"),
        ("firstseen.original.timestamp", b"1700000000123"),
        ("firstseen.group_id", b"firstseen"),
        ("firstseen.version", b"0.1.0"),
        ("firstseen.ruleset", b"abc"),
        ("firstseen.attempt", b"1"),
        ("firstseen.failed_at", b"2026-01-02T03:04:05.678Z"),
    ) == encoded.headers


def test_key_and_value_are_unchanged():
    encoded = encode_dead_letter(LETTER, **LIMITS)

    assert (LETTER.key, LETTER.value) == (encoded.key, encoded.value)


def test_a_tombstone_stays_a_tombstone():
    assert encode_dead_letter(replace(LETTER, value=None), **LIMITS).value is None


def test_a_value_that_the_topic_takes_is_kept_whole_however_long():
    value = b"x" * 1_000_000

    encoded = encode_dead_letter(replace(LETTER, value=value), **LIMITS)

    assert (value, False) == (encoded.value, parse(encoded).truncated)


def test_a_value_too_large_for_the_topic_is_cut_and_said_to_be():
    encoded = encode_dead_letter(replace(LETTER, value=b"x" * (1 << 20)), **LIMITS)

    assert (b"x" * 65_536, True, LETTER.headers) == (
        encoded.value,
        parse(encoded).truncated,
        parse(encoded).headers,
    )


@given(
    key=st.none() | st.integers(0, 300_000).map(lambda size: b"k" * size),
    value=st.none() | st.integers(0, 300_000).map(lambda size: b"v" * size),
    header=st.integers(0, 300_000).map(lambda size: b"h" * size),
    max_value=st.integers(0, 1 << 20),
)
def test_whatever_the_record_its_dead_letter_fits(key, value, header, max_value):
    limit = 1 << 16

    encoded = encode_dead_letter(
        replace(LETTER, key=key, value=value, headers=(("h", header),)),
        max_record_bytes=limit,
        max_value_bytes=max_value,
    )

    size = (
        len(encoded.key or b"")
        + len(encoded.value or b"")
        + sum(len(n) + len(v) for n, v in encoded.headers)
    )
    assert size <= limit
    assert parse(encoded).code == LETTER.code


def test_a_long_message_is_cut_at_a_whole_character():
    encoded = encode_dead_letter(replace(LETTER, message="日" * 1000), **LIMITS)

    message = dict(encoded.headers)["firstseen.error.message"]
    assert "日" * (MAX_HEADER_BYTES // 3) == message.decode()


def test_a_message_without_utf_8_is_written_all_the_same():
    assert "a?" == parse(encode_dead_letter(replace(LETTER, message="a\ud800"), **LIMITS)).message


def test_a_requeued_record_carries_its_attempt_and_its_own_headers():
    requeued = requeue_headers(replace(LETTER, attempt=2))

    assert (*LETTER.headers, ("firstseen.attempt", b"2")) == requeued
    assert 3 == next_attempt(requeued)


def test_our_headers_of_an_earlier_failure_are_not_kept():
    first = encode_dead_letter(LETTER, **LIMITS)

    second = encode_dead_letter(replace(LETTER, headers=first.headers, code="too_deep"), **LIMITS)

    assert ("too_deep", LETTER.headers) == (parse(second).code, parse(second).headers)
    assert len(first.headers) == len(second.headers)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((), 1),
        ((("firstseen.attempt", b"1"),), 2),
        ((("firstseen.attempt", b"many"),), 1),
        ((("firstseen.attempt", b"-1"),), 1),
        ((("firstseen.attempt", b"9" * 30),), 1),
    ],
)
def test_the_attempt_is_counted_from_the_headers(found, expected):
    assert expected == next_attempt(found)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("firstseen.error.code", None),
        ("firstseen.original.offset", b"x"),
        ("firstseen.error.message", b"\xff"),
        ("firstseen.failed_at", b"yesterday"),
        ("firstseen.failed_at", b"2026-01-02T03:04:05"),
    ],
)
def test_a_record_that_is_no_dead_letter_of_ours_is_refused(name, raw):
    encoded = dict(encode_dead_letter(LETTER, **LIMITS).headers)
    encoded.pop(name)
    if raw is not None:
        encoded[name] = raw

    with pytest.raises(DecodeError, match="no dead letter of firstseen") as caught:
        parse_dead_letter(b"k", b"v", tuple(encoded.items()))

    assert "invalid_envelope" == caught.value.reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("original.partition", "-5"),
        ("original.partition", str(2**31)),
        ("original.offset", str(2**63)),
        ("original.offset", "9" * 5_000),
        ("original.timestamp", "soon"),
        ("attempt", "-1"),
        ("attempt", str(10**30)),
        ("failed_at", "0001-01-01T00:00:00+14:00"),
        ("failed_at", "9999-12-31T23:59:59-14:00"),
        ("failed_at", "2026-01-02T03:04:05"),
    ],
)
def test_a_forged_letter_is_a_strangers_record(name: str, value: str):
    encoded = encode_dead_letter(LETTER, **LIMITS)
    forged = tuple(
        (header, value.encode() if header == f"firstseen.{name}" else raw)
        for header, raw in encoded.headers
    )

    with pytest.raises(DecodeError) as caught:
        parse_dead_letter(encoded.key, encoded.value, forged)

    assert caught.value.reason == "invalid_envelope"
