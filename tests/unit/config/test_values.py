"""Durations and sizes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("24h", timedelta(hours=24)),
        ("14d", timedelta(days=14)),
        ("1.5s", timedelta(milliseconds=1500)),
        (" 5m ", timedelta(minutes=5)),
        ("0s", timedelta(0)),
        (timedelta(seconds=3), timedelta(seconds=3)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text, expected):
    assert expected == parse_duration(text)


@pytest.mark.parametrize(
    "text", ["", "5", 5, 5.0, True, None, "5 m", "m", "-5m", "5w", "1h30m", "٥m", "5M"]
)
def test_what_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="like 250ms, 90s, 5m, 24h, 14d"):
        parse_duration(text)


def test_a_duration_beyond_what_python_holds_is_refused():
    with pytest.raises(ValueError, match="longer"):
        parse_duration("9" * 30 + "d")


@given(st.integers(0, 10**12))
def test_a_written_duration_reads_back(milliseconds):
    duration = timedelta(milliseconds=milliseconds)

    assert duration == parse_duration(format_duration(duration))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("65536", 65_536),
        (65_536, 65_536),
        ("10B", 10),
        ("1KiB", 1024),
        ("64 MiB", 64 << 20),
        ("2GiB", 2 << 30),
    ],
)
def test_a_size_is_bytes_or_a_binary_multiple(text, expected):
    assert expected == parse_size(text)


@pytest.mark.parametrize("text", ["", "1.5MiB", "64MB", "64mb", "-1", True, None, 1.0, "MiB"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="like 64MiB"):
        parse_size(text)


@given(st.integers(0, 1 << 50))
def test_a_written_size_reads_back(size):
    assert size == parse_size(format_size(size))


def test_values_are_written_with_the_largest_whole_unit():
    assert ("1m", "90s", "14d", "0ms", "64MiB", "65537", "0") == (
        format_duration(timedelta(seconds=60)),
        format_duration(timedelta(seconds=90)),
        format_duration(timedelta(days=14)),
        format_duration(timedelta(0)),
        format_size(64 << 20),
        format_size(65_537),
        format_size(0),
    )
