from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rules.durations import parse_interval, parse_relative


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("5m", 300_000), ("1s", 1_000), ("24h", 86_400_000), ("2d", 172_800_000), ("1w", 604_800_000)],
)
def test_an_interval_is_a_number_and_a_unit(text, milliseconds):
    assert parse_interval(text) == milliseconds


@pytest.mark.parametrize("text", ["", "5", "m", "0m", "-5m", "5 m", "5M", "1.5h", "5m ", "٥m"])
def test_anything_else_is_no_interval(text):
    assert parse_interval(text) is None


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("now", 0), ("now-9m", 540_000), ("now-14d", 1_209_600_000), ("now-12H", 43_200_000)],
)
def test_a_relative_time_counts_back_from_now(text, milliseconds):
    assert parse_relative(text) == milliseconds


@pytest.mark.parametrize(
    "text", ["", "14d", "now-", "now-1M", "now-1y", "now-7d/d", "now+5m", "now-1d-2h", "2024-01-01"]
)
def test_what_needs_a_calendar_or_a_clock_is_refused(text):
    assert parse_relative(text) is None


@given(st.text())
def test_no_text_makes_them_raise(text):
    parse_interval(text)
    parse_relative(text)
