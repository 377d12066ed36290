"""The queries of docs/query-language.md compile, or are refused, as the page says."""

import re
from pathlib import Path

import pytest

from pipeline.errors import QueryError
from pipeline.kql import compile_query
from pipeline.kql.limits import MAX_CLAUSES, MAX_DEPTH

PAGE = (Path(__file__).parents[3] / "docs" / "query-language.md").read_text(encoding="utf-8")


def _lines(kind: str) -> list[str]:
    blocks = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("query", _lines("kql"))
def test_a_query_of_the_page_compiles(query: str) -> None:
    compile_query(query)


@pytest.mark.parametrize("query", _lines("kql error"))
def test_an_error_of_the_page_is_one(query: str) -> None:
    with pytest.raises(QueryError):
        compile_query(query)


def test_the_python_example_does_what_it_says() -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    names: dict = {}
    lines = example.splitlines()

    exec("\n".join(lines[:-1]), names)  # noqa: S102

    assert eval(lines[-1], names)  # noqa: S307


def test_the_limits_of_the_page_are_the_limits() -> None:
    assert f"at most {MAX_DEPTH} levels" in PAGE
    assert f"at most {MAX_CLAUSES:,} clauses" in PAGE
