"""Patterns and readers do work in proportion to their input: counted, not timed."""

import re
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kql import FieldTable, compile_query, parse
from pipeline.kql.patterns import compile_pattern


class CountingText(str):
    """A text that counts the characters that searches pass over."""

    __slots__ = ("passed", "searches")

    def __new__(cls, text: str) -> Self:
        made = super().__new__(cls, text)
        made.passed = made.searches = 0
        return made

    def find(self, part: str, start: int, end: int) -> int:
        found = super().find(part, start, end)
        self.passed += (end if found < 0 else found + len(part)) - start
        self.searches += 1
        return found


@pytest.mark.parametrize(
    "parts",
    [
        ("", *["a"] * 5_000, "b"),
        ("", *["aa"] * 4_000, "c", ""),
        ("a", *["a"] * 12_000, ""),
        ("", *["ab"] * 100, ""),
    ],
)
def test_a_pattern_passes_over_a_text_once(parts: tuple[str, ...]) -> None:
    text = CountingText("a" * 10_000)

    compile_pattern(parts)(text)

    assert text.passed <= len(text)
    assert text.searches <= len(parts)


@given(
    st.lists(st.text(alphabet="ab\n", max_size=3), min_size=2, max_size=5),
    st.text(alphabet="ab\n", max_size=12),
)
def test_a_pattern_means_what_a_regular_expression_would(parts: list[str], text: str) -> None:
    expected = re.fullmatch("(?s:.*)".join(map(re.escape, parts)), text) is not None

    assert expected == compile_pattern(tuple(parts))(text)


def test_long_inputs_are_no_trouble() -> None:
    value = "a" * 1_000_000
    pattern = "*".join(["a"] * 20_000) + "*b"

    assert not compile_query(f"process.command_line:{pattern}")(
        {"process": {"command_line": value}}
    )
    assert parse(" " * 200_000 + "f:" + "x " * 100_000 + "not" * 50_000)
    assert parse('"' + "\\\\" * 200_000 + '":x')


class CountingDict(dict):
    """An object that counts how often it is asked."""

    asked = 0

    def get(self, key, default=None):
        type(self).asked += 1
        return super().get(key, default)


def test_a_reader_asks_each_object_a_fixed_number_of_times() -> None:
    CountingDict.asked = 0
    read = FieldTable.from_mapping({"a.b.c": "keyword"}).values("a.b.c")
    event = {"a": [CountingDict(b=[CountingDict(c="x") for _ in range(50)]) for _ in range(50)]}

    assert len(read(event)) == 2_500
    assert CountingDict.asked <= 50 * 2 + 2_500
