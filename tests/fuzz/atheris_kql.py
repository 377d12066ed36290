"""Coverage-guided fuzzing of KQL, from text to verdict (needs the dependency group `fuzz`).

python -m tests.fuzz.atheris_kql CORPUS -max_total_time=300      libFuzzer's options
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["pipeline"]):
    from pipeline.errors import QueryError
    from pipeline.kql import (
        FieldTable,
        compile_node,
        format_query,
        parse,
        required_clauses,
    )

from tests.events import library_event
from tests.naive_kql import holds

_TABLE = FieldTable.builtin().extend(
    {
        "a": "keyword",
        "n": "long",
        "d": "date",
        "i": "ip",
        "t": "text",
        "w": "wildcard",
        "b": "boolean",
    }
)
_EVENTS = (
    {},
    library_event(),
    {"a": ["x", "AB", None, 1], "n": [1, 2.5], "d": "2026-03-02", "i": "10.0.0.7", "b": "true"},
    {
        "t": ["Some words, and more", "x" * 2000, "Some"],
        "i": ["10.0.0.7", "::1", "x"],
        "d": ["2026-03-02", "2024", 5],
        "w": ["x" * 2000, "ab", ""],
        "n": ["1", 7, 2.5],
        "b": ["true", ""],
    },
    {"a": {"b": [{"c": "d"}]}, "t": "Some words, and more", "w": "x" * 200, "n": "7"},
)


def one(data: bytes) -> None:
    """What holds for every text: an error with a place, or a query that is what it prints."""
    text = data.decode("utf-8", "replace")
    try:
        node = parse(text)
        match = compile_node(node, _TABLE, text=text)
    except QueryError as error:
        if not 0 <= error.span.start <= error.span.end <= len(error.text):
            raise AssertionError(f"an error outside of its text: {error.span}") from error
        str(error)
        return
    printed = format_query(node)
    if parse(printed) != node:
        raise AssertionError(f"{text!r} prints as {printed!r}, which is another query")
    clauses = required_clauses(node, _TABLE)
    for event in _EVENTS:
        verdict = match(event)
        if verdict not in (True, False):
            raise AssertionError(f"the verdict is {verdict!r}")
        if verdict and not all(any(holds(n, event) for n in clause) for clause in clauses):
            raise AssertionError(f"{text!r} matches without one of {clauses}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
