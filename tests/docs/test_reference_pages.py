"""The reference pages say what the code does."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline
from pipeline import errors
from pipeline.errors import FirstseenError
from pipeline.kafka import headers
from tests.reference_pages import PAGES, TABLES, names, render

WRITTEN = ("settings.md", "metrics.md", "topics.md", "log-events.md")
ERRORS = (PAGES / "errors.md").read_text(encoding="utf-8")
CLASSES = [
    member
    for member in vars(errors).values()
    if isinstance(member, type) and issubclass(member, FirstseenError)
]


def rows(heading: str) -> dict[str, list[str]]:
    """The table under a heading of the errors page, by what stands in its first cell."""
    section = ERRORS.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0].strip("` "): row[1:] for row in cells}


def calls() -> Iterator[ast.Call]:
    for path in Path(pipeline.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield node


def reasons() -> set[str]:
    """Every reason that the code gives a record, and every code that a stage gives a dead letter."""
    found = set()
    for call in calls():
        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
        if name in {"DecodeError", "TimestampError", "TooCostlyError", "RecordError"} and call.args:
            found.add(getattr(call.args[0], "value", None))
        if name == "write":
            found |= {getattr(k.value, "value", None) for k in call.keywords if k.arg == "code"}
    return {reason for reason in found if isinstance(reason, str)}


@pytest.mark.parametrize("page", WRITTEN)
def test_the_tables_of_a_page_are_up_to_date(page):
    text = (PAGES / page).read_text(encoding="utf-8")

    assert render(text) == text, "run: python -m tests.reference_pages"


def test_every_table_stands_on_one_page():
    placed = [
        name for page in WRITTEN for name in names((PAGES / page).read_text(encoding="utf-8"))
    ]

    assert sorted(TABLES) == sorted(placed)


def test_error_codes_are_unique_words():
    codes = Counter(cls.code for cls in CLASSES)

    assert [] == [
        code
        for code, times in codes.items()
        if times > 1 or not re.fullmatch(r"[a-z][a-z0-9_]*", code)
    ]


def test_every_error_is_on_the_page_with_its_exit_code():
    assert {cls.code: str(cls.exit_code) for cls in CLASSES} == {
        code: row[0] for code, row in rows("Errors").items()
    }


def test_every_reason_of_a_dead_letter_is_on_the_page():
    assert reasons() == set(rows("Reasons of dead letters"))


def test_reasons_are_words_and_no_code_of_an_error():
    assert [] == [reason for reason in reasons() if not re.fullmatch(r"[a-z][a-z0-9_]*", reason)]
    assert set() == reasons() & {cls.code for cls in CLASSES}


def test_every_header_of_a_dead_letter_is_on_the_page():
    section = ERRORS.split("## Headers of dead letters\n")[1]
    added = {
        value
        for value in vars(headers).values()
        if isinstance(value, str) and value.startswith("firstseen.")
    }

    assert added - {headers.PREFIX} == set(re.findall(r"`(firstseen\.[a-z_.]+)`", section))


@pytest.mark.parametrize("page", [*WRITTEN, "errors.md"])
def test_links_to_pages_and_folders_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)\)", (PAGES / page).read_text(encoding="utf-8"))

    assert [] == [target for target in targets if not (PAGES / target).exists()]
