"""Runs every row of tests/cases/kql/*.toml. A new case is a new row, a new subject a new file.

A file has a table ``[fields]`` (``builtin = true`` for the built-in field table) and rows
``[[case]]``: ``query``, and either ``event`` (JSON) with ``expect``, or ``events`` with the list
of their verdicts, or ``error`` (the code), with ``column`` and ``hint`` if they matter.
"""

import json
import tomllib
from pathlib import Path

import pytest

from pipeline.errors import QueryError
from pipeline.kql import FieldTable, Memo, compile_query, explain, format_query, parse

CASES = Path(__file__).parents[2] / "cases" / "kql"


def _table(fields: dict) -> FieldTable:
    return FieldTable.builtin() if fields == {"builtin": True} else FieldTable.from_mapping(fields)


def _rows():
    for path in sorted(CASES.glob("*.toml")):
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        table = _table(data["fields"])
        for index, case in enumerate(data["case"]):
            name = case.get("name", case["query"])
            yield pytest.param(case, table, id=f"{path.stem}-{index}-{name[:60]!a}")


@pytest.mark.parametrize(("case", "table"), list(_rows()))
def test_a_row_of_the_case_files(case: dict, table: FieldTable) -> None:
    if "error" in case:
        _check_error(case, table)
        return
    texts = [case["event"]] if "event" in case else case["events"]
    expected = case["expect"] if "events" in case else [case["expect"]]
    events = [json.loads(text) for text in texts]
    matcher = compile_query(case["query"], table)

    assert expected == [matcher(event) for event in events]

    # The canonical text and the explanation must tell the same.
    node = parse(case["query"])
    canonical = compile_query(format_query(node), table)
    assert expected == [canonical(event) for event in events]
    assert expected == [explain(node, table, event).matches for event in events]


@pytest.mark.parametrize(
    ("case", "table"), [row for row in _rows() if "error" not in row.values[0]]
)
def test_a_row_says_the_same_of_an_event_that_is_looked_through_as_a_large_one(
    case: dict, table: FieldTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.kql.matching.LONG", -1)
    monkeypatch.setattr("pipeline.kql.compiler.FEW_OBJECTS", -1)
    monkeypatch.setattr("pipeline.kql.fields._SEARCHES", 0)
    texts = [case["event"]] if "event" in case else case["events"]
    expected = case["expect"] if "events" in case else [case["expect"]]
    matcher = compile_query(case["query"], table)

    assert expected == [matcher(json.loads(text), Memo()) for text in texts]


def _check_error(case: dict, table: FieldTable) -> None:
    with pytest.raises(QueryError) as caught:
        compile_query(case["query"], table)

    assert case["error"] == caught.value.code
    if "column" in case:
        assert case["column"] == caught.value.column
    if "hint" in case:
        assert case["hint"] in (caught.value.hint or "")


def test_case_files_are_found() -> None:
    assert len(list(_rows())) > 200
