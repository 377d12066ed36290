"""Patterns and readers do work in proportion to their input: counted, not timed."""

import re
from typing import Self

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.kql import FieldTable, compile_query, parse
from pipeline.kql.indexed import Texts
from pipeline.kql.pattern_set import PatternSet
from pipeline.kql.patterns import StarPattern, compile_pattern
from tests.calls import calls_of


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


texts = st.lists(st.text(alphabet="ab\0\1\2é\ud800", max_size=8), max_size=6)
pattern_parts = st.lists(st.text(alphabet="ab\0\1\2é\ud800", max_size=4), min_size=2, max_size=4)


@settings(max_examples=1000)
@given(st.lists(pattern_parts, max_size=5), texts)
@example([["", "ab", "ab", ""]], ["ab"])
@example([["ab", "ba"]], ["aba"])
@example([["abc", "ab"], ["", "bbb" * 500 + "a", ""]], ["abcx", "ab", "b" * 1499])
@example([["abc", "", "abc"]], ["abc", "abcabx", "xabcabc"])
@example([["", ""]], [""])
@example([["", ""]], [])
@example([["", "\1", ""]], ["a", "\2"])
@example([["", "\0abc", ""], ["", "ab\0\0\0", ""]], ["x\0abd", "ab\0\0"])
@example([["", "a", "b", ""]], ["ba"] * 20 + ["xa", "b"])
@example([["ab", ""]], ["x\1ab"])
@example([["x", "ab"]], ["b"] * 20 + ["x\1ab"])
def test_many_patterns_on_many_texts_mean_each_pattern_on_each_text(parts, texts) -> None:
    patterns = [StarPattern(tuple(each)) for each in parts]
    expected = any(pattern(text) for pattern in patterns for text in texts)

    assert expected == PatternSet(patterns).fits_any(Texts(texts))


@pytest.mark.parametrize("field", ["w", "k.caseless", "t"])
def test_many_patterns_on_many_values_cost_a_few_calls_each(field: str) -> None:
    table = FieldTable.from_mapping(
        {
            "w": "wildcard",
            "k": {
                "type": "keyword",
                "multi_fields": {"caseless": {"type": "keyword", "normalizer": "lowercase"}},
            },
            "t": "text",
        }
    )
    patterns = " or ".join(f"*bc*d{number}*" for number in range(500))
    matches = compile_query(f"not {field}:({patterns})", table)
    values = [f"abc{number:06}" for number in range(5_000)]
    event = {field[0]: values}

    assert matches(event)
    # Each value is indexed with a few calls; a call for each pattern on each would be 2,500,000.
    assert calls_of(lambda: matches(event)) < 20 * len(values) + 20 * 500


def test_clauses_and_rules_that_share_a_memo_index_a_field_once() -> None:
    clauses = [f"not process.command_line:*a{number}*b*" for number in range(30)]
    values = [f"value {number}" for number in range(3_000)]
    event = {"process": {"command_line": values}}
    one, many = compile_query(clauses[0]), compile_query(" and ".join(clauses))

    assert calls_of(lambda: many(event)) < 1.5 * calls_of(lambda: one(event)) + 30 * 30


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
