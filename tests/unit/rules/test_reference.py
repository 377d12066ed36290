"""docs/reference/rule-keys.md lists what the code knows: its tables are compared line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.rules import ISSUE_CODES
from pipeline.rules.filter_clauses import CLAUSES
from pipeline.rules.keys import (
    EXCEPTION_ENTRY_KEYS,
    EXCEPTION_ITEM_KEYS,
    EXCEPTION_KEYS,
    EXCEPTION_LIST_KEYS,
    EXCEPTION_METADATA_KEYS,
    FILE_KEYS,
    FILTER_KEYS,
    NEW_TERMS_KEYS,
    RULE_KEYS,
    TEST_KEYS,
    THREAT_KEYS,
)

EXCEPTION_LISTS = (
    EXCEPTION_METADATA_KEYS,
    EXCEPTION_LIST_KEYS,
    EXCEPTION_ITEM_KEYS,
    EXCEPTION_ENTRY_KEYS,
)
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "rule-keys.md"


def rows(keys, *, kept):
    return [
        f"| `{name}` | {key.kind.says} | {'yes' if key.required else ''} | {key.about} |"
        if not kept
        else f"| `{name}` | {key.kind.says} | {key.about} |"
        for name, key in keys.items()
        if key.kept is kept
    ]


TABLES = {
    "## The tables of a file": rows(FILE_KEYS, kept=False) + rows(FILE_KEYS, kept=True),
    "## `[rule]`": rows(RULE_KEYS, kept=False),
    "## `[rule.new_terms]`": rows(NEW_TERMS_KEYS, kept=False),
    "## `[[rule.threat]]`": rows(THREAT_KEYS, kept=False),
    "## `[[rule.filters]]`": rows(FILTER_KEYS, kept=False),
    "## `[[tests]]`": rows(TEST_KEYS, kept=False),
    "## `[[exceptions]]`": rows(EXCEPTION_KEYS, kept=False),
    "## Exception lists": [
        *(row for keys in EXCEPTION_LISTS for row in rows(keys, kept=False)),
        *(row for keys in EXCEPTION_LISTS for row in rows(keys, kept=True)),
    ],
    "## Keys that are kept": rows(RULE_KEYS, kept=True),
    "## Issue codes": [f"| `{code}` | {meaning} |" for code, meaning in ISSUE_CODES.items()],
}


def table_under(heading):
    section = PAGE.read_text().partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("heading", TABLES)
def test_the_reference_page_lists_every_key(heading):
    assert table_under(heading) == TABLES[heading]


def test_the_reference_page_names_every_filter_clause():
    section = PAGE.read_text().partition("\n## `[[rule.filters]]`\n")[2].partition("\n## ")[0]

    assert [clause for clause in CLAUSES if f"`{clause}`" not in section] == []
