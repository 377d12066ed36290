from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.rules import ISSUE_CODES, Issue

PATH = Path("rules/a.toml")


@pytest.mark.parametrize(
    ("issue", "text"),
    [
        (Issue("c", "info", "m"), "info[c]: m"),
        (Issue("c", "error", "m", PATH), "rules/a.toml: error[c]: m"),
        (Issue("c", "error", "m", PATH, 3), "rules/a.toml:3: error[c]: m"),
        (Issue("c", "error", "m", PATH, 3, "r", "try x"), "rules/a.toml:3: error[c]: m (try x)"),
        (Issue("c", "error", "m\n  ^", hint="try x"), "error[c]: m\n  ^\nhint: try x"),
    ],
)
def test_an_issue_is_told_with_its_place_and_its_hint(issue, text):
    assert str(issue) == text


def test_codes_are_words_in_snake_case():
    assert all(code.isidentifier() and code.islower() for code in ISSUE_CODES)
