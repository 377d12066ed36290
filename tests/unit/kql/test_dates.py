from datetime import UTC, datetime

import pytest

from pipeline.errors import QueryTypeError
from pipeline.kql import compile_query
from pipeline.kql.dates import date_bound, epoch_ms

FIELDS = {"t": "date"}


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-02-29T12:34:56.7891234Z", ms(2024, 2, 29, 12, 34, 56) + 789),
        ("2024-02-29T12:34:56,5Z", ms(2024, 2, 29, 12, 34, 56) + 500),
        ("2024-02-29T12:34:56-0330", ms(2024, 2, 29, 16, 4, 56)),
        ("2024-02-29T12+02", ms(2024, 2, 29, 10)),
        ("2024-02-29T", ms(2024, 2, 29)),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2024", ms(2024, 1, 1)),
        ("20240229", 20240229),
        ("-5", -5),
        (1.9, 1),
        (7, 7),
    ],
)
def test_dates_are_read_as_elasticsearch_reads_them(text: object, expected: int) -> None:
    assert expected == epoch_ms(text)


@pytest.mark.parametrize(
    "value",
    [
        *["", "x", "2023-02-29", "2024-1-1", "2024-01-01 10:00", "2024-01-01T10:00:60Z", "٢٠٢٤"],
        *["2024+02:00", "2024-01-01+02:00", "2024-01-01Z", "2024-01-01T+02:00", "2024-01-01TZ"],
        *["2024-01-01T10:00:00+25:00", "2024-01-01T10:00:00z", "9" * 30, "now", True, None, [], {}],
        *[float("nan"), float("inf"), 2**63, 1e19],
    ],
)
def test_what_is_no_date_is_none(value: object) -> None:
    assert epoch_ms(value) is None


NOW = ms(2024, 3, 31, 15, 20, 30) + 250


@pytest.mark.parametrize(
    ("text", "down", "up"),
    [
        ("now", NOW, NOW),
        ("now-1d", NOW - 86_400_000, NOW - 86_400_000),
        ("now+90s", NOW + 90_000, NOW + 90_000),
        ("now-m", NOW - 60_000, NOW - 60_000),
        ("now/d", ms(2024, 3, 31), ms(2024, 4, 1) - 1),
        ("now/w", ms(2024, 3, 25), ms(2024, 4, 1) - 1),
        ("now/M", ms(2024, 3, 1), ms(2024, 4, 1) - 1),
        ("now/y", ms(2024, 1, 1), ms(2025, 1, 1) - 1),
        ("now/h", ms(2024, 3, 31, 15), ms(2024, 3, 31, 16) - 1),
        ("now/m", ms(2024, 3, 31, 15, 20), ms(2024, 3, 31, 15, 21) - 1),
        ("now/s", ms(2024, 3, 31, 15, 20, 30), ms(2024, 3, 31, 15, 20, 31) - 1),
        ("now-1M", ms(2024, 2, 29, 15, 20, 30) + 250, ms(2024, 2, 29, 15, 20, 30) + 250),
        ("now-1y-1M/d", ms(2023, 2, 28), ms(2023, 3, 1) - 1),
        ("2024-01-31||+1M", ms(2024, 2, 29), ms(2024, 2, 29)),
        ("2024-01||/y", ms(2024, 1, 1), ms(2025, 1, 1) - 1),
        ("2024-12", ms(2024, 12, 1), ms(2024, 12, 2) - 1),
        ("2024", ms(2024, 1, 1), ms(2024, 1, 2) - 1),
        ("2024-12||/M", ms(2024, 12, 1), ms(2025, 1, 1) - 1),
        ("9999-12-31", ms(9999, 12, 31), ms(9999, 12, 31) + 86_400_000 - 1),
        ("2024-01-01T10+02:00", ms(2024, 1, 1, 8), ms(2024, 1, 1, 9) - 1),
        ("2024-01-01T10:30", ms(2024, 1, 1, 10, 30), ms(2024, 1, 1, 10, 31) - 1),
        ("2024-01-01T10:30:01", ms(2024, 1, 1, 10, 30, 1), ms(2024, 1, 1, 10, 30, 2) - 1),
    ],
)
def test_bounds_are_rounded_down_or_up(text: str, down: int, up: int) -> None:
    lower, upper = date_bound(text, up=False), date_bound(text, up=True)

    assert lower is not None
    assert upper is not None
    assert (down, up) == (lower.at(NOW), upper.at(NOW))


@pytest.mark.parametrize(
    "text", ["now-", "now1d", "now-1x", "now/2d", "nowhere", "2024-01-01||1d", "x||/d"]
)
def test_what_is_no_date_math_is_refused(text: str) -> None:
    assert date_bound(text, up=False) is None


@pytest.mark.parametrize("text", ["now-999999999y", "now+999999999M", "now-999999999d", "now+9y/y"])
def test_date_math_never_leaves_the_calendar(text: str) -> None:
    for up in [True, False]:
        bound = date_bound(text, up=up)

        assert bound is not None
        assert isinstance(bound.at(NOW), int)
        assert isinstance(bound.at(2**62), int)
        assert isinstance(bound.at(-(2**62)), int)


def test_now_is_asked_of_the_clock_at_each_match() -> None:
    moments = iter([NOW, NOW + 86_400_000])
    matcher = compile_query("t > now-1d", FIELDS, clock=lambda: next(moments))
    event = {"t": NOW - 1000}

    assert matcher(event)
    assert not matcher(event)


def test_without_a_clock_now_is_refused() -> None:
    with pytest.raises(QueryTypeError, match="no clock was given"):
        compile_query("t > now-1d", FIELDS)
