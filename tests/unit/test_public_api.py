"""The package itself offers one function and its errors."""

import subprocess
import sys
from types import MappingProxyType

import pytest

import pipeline


def test_a_query_is_compiled_to_a_function_of_an_event() -> None:
    matcher = pipeline.compile_query('process.name.caseless:"cmd.exe" and process.pid > 3')

    assert matcher({"process": {"name": "CMD.EXE", "pid": 4}})
    assert not matcher({"process": {"name": "CMD.EXE"}})


def test_fields_may_be_given_as_a_mapping() -> None:
    fields = {"x": {"type": "keyword", "multi_fields": {"text": "match_only_text"}}}

    assert pipeline.compile_query("x.text:b", fields)({"x": "a b"})


def test_any_mapping_is_an_event_and_anything_else_an_empty_one() -> None:
    matcher = pipeline.compile_query("not process.name:x")

    assert not matcher(MappingProxyType({"process.name": "x"}))
    for odd in [None, 1, "x", [], [{"process.name": "x"}]]:
        assert matcher(odd)


def test_a_bad_query_raises_the_error_of_the_package() -> None:
    with pytest.raises(pipeline.QueryError):
        pipeline.compile_query("a:")


def test_wrong_field_types_raise_an_error_of_the_package() -> None:
    with pytest.raises(pipeline.FieldTypesError, match="keywrd"):
        pipeline.compile_query("x:a", {"x": "keywrd"})


def test_python_values_that_json_does_not_have_are_no_values() -> None:
    odd = {1: "x", "process": {"name": {1, 2}, "pid": object(), 2: {}}, "@timestamp": b"2024"}
    query = "not (process.name:x or process.pid:1 or @timestamp:2024 or x or process:*)"

    assert pipeline.compile_query(query)(odd)


def test_the_package_lists_what_it_offers_before_it_is_used() -> None:
    program = "import pipeline; print({*pipeline.__all__} <= {*dir(pipeline)})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "True\n"


def test_a_type_checker_knows_the_names_that_exist_and_no_others() -> None:
    right = "import pipeline; pipeline.compile_query('a:b')({})"
    wrong = right.replace("query", "search")

    assert type_check(right).returncode == 0
    assert "compile_search" in type_check(wrong).stdout


def type_check(program: str) -> subprocess.CompletedProcess[str]:
    """Check a program with mypy: in a process of its own, as mypy raises the recursion limit."""
    options = ["--config-file=", "--cache-dir=.mypy_cache/public_api"]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *options, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
