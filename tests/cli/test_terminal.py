"""Nothing that an event says can drive a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.terminal import printable, printable_json, printable_lines

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"C:\Users\ann\tool.exe", r"C:\Users\ann\tool.exe"),
        ("Grüße, 東京 🙂", "Grüße, 東京 🙂"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x9b2J", r"\x9b2J"),
        ("a\nb\tc\rd\x00\x7f", r"a\nb\tc\rd\x00\x7f"),
        ("exe.\u202efdp", r"exe.\u202efdp"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("line\u2028break", r"line\u2028break"),
        ("\ud800", r"\ud800"),
        ("", ""),
    ],
)
def test_what_cannot_be_seen_is_written_out(text, shown):
    assert printable(text) == shown


@given(ANY_TEXT)
def test_every_text_becomes_printable(text):
    assert printable(text).isprintable()


@given(ANY_TEXT)
def test_a_text_of_visible_characters_stays_as_it_is(text):
    visible = "".join(c for c in text if c.isprintable())

    assert printable(visible) == visible


def test_lines_and_tabs_may_be_kept():
    assert printable_lines("a\n\tb\x1b[2J") == "a\n\tb\\x1b[2J"


@given(st.text())
def test_json_means_the_same_when_it_is_made_harmless(text):
    document = json.dumps({"value": text}, ensure_ascii=False)
    harmless = printable_json(document)

    assert json.loads(harmless) == {"value": text}
    assert all(c.isprintable() for c in harmless)
