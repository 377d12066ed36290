from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rules.wildcard import compile_wildcard


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("cmd.exe", "cmd.exe", True),
        ("cmd.exe", "xcmd.exe", False),
        ("*", "", True),
        ("?", "", False),
        ("?", "\n", True),
        ("?:\\\\Windows\\\\*", "C:\\Windows\\a.exe", True),
        ("?:\\\\Windows\\\\*", "CC:\\Windows\\a.exe", False),
        ("a*a", "a", False),
        ("a*b*c", "abbbc", True),
        ("a*b?d*e", "axbcde", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("a\\?", "a?", True),
        ("a\\?", "ab", False),
        ("a\\", "a\\", True),
        ("**a**", "bab", True),
        ("a.c", "abc", False),
    ],
)
def test_a_pattern_fits_the_whole_value(pattern, value, fits):
    assert compile_wildcard(pattern)(value) is fits


def test_case_counts_unless_told_otherwise():
    assert not compile_wildcard("C:\\\\A*")("c:\\a.exe")
    assert compile_wildcard("C:\\\\A*", caseless=True)("c:\\a.exe")
    assert compile_wildcard("c:\\\\a*", caseless=True)("C:\\A.EXE")


def test_only_ascii_letters_lose_their_case():
    assert not compile_wildcard("É*", caseless=True)("école")
    assert compile_wildcard("É*", caseless=True)("École")


@given(
    st.text(alphabet="ab*?", max_size=8),
    st.text(alphabet="ab", max_size=12),
)
def test_it_agrees_with_the_shell_pattern_of_the_same_text(pattern, value):
    assert compile_wildcard(pattern)(value) == fnmatchcase(value, pattern)


def test_many_stars_take_no_exponential_time():
    """Such a time would be longer than pytest's timeout."""
    assert not compile_wildcard("*a" * 40 + "b")("a" * 20_000)
