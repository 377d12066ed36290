"""The printer is the parser's inverse, and the parser never fails but with a QueryError."""

import contextlib

from hypothesis import assume, example, given
from hypothesis import strategies as st

from pipeline.errors import QueryError
from pipeline.kql import compile_query, field_names, format_query, parse
from pipeline.kql.nodes import MATCH_ALL, And, Is, Not, Or, Text, Wildcard
from tests.strategies import nodes, query_texts


@given(nodes())
@example(MATCH_ALL)
@example(Is(None, Text("")))
@example(Is("", Text("", quoted=True)))
@example(Is(" a ", Wildcard(("or ", " or", ""))))
@example(Or((Is("f", Text("x not")), Is("f", Text("and")))))
@example(And((Is("f", Text("x and")), Or((Is("f", Text("or")), Is("g", Text("a")))))))
@example(Not(Or((Is("f", Text("a")), Not(And((Is("f", Text("b")), Is("f", Text("c")))))))))
@example(Is("f", Text("\ud800", quoted=True)))
@example(Is("f", Text("x\ud800")))
def test_parsing_the_canonical_text_gives_the_node_again(node) -> None:
    assert node == parse(format_query(node))


@given(nodes())
def test_the_canonical_text_is_stable(node) -> None:
    text = format_query(node)

    assert text == format_query(parse(text))


@given(nodes())
def test_field_names_survive_the_round_trip(node) -> None:
    assert field_names(node) == field_names(parse(format_query(node)))


@given(st.one_of(st.text(), query_texts(20)))
@example("(" * 100_000)
@example("not " * 10_000 + "a")
@example("a:(" * 10_000)
@example("a:{" * 10_000)
@example("\\" * 9_999)
@example(" " * 100_000 + "a" + " " * 100_000 + "or")
@example('"' + "\\" * 9_999)
def test_any_text_compiles_or_is_refused(text: str) -> None:
    with contextlib.suppress(QueryError):
        compile_query(text)


@given(query_texts(20))
def test_an_error_points_into_its_text(text: str) -> None:
    error = _error(text)
    assume(error is not None)

    assert 0 <= error.span.start <= error.span.end <= len(text)
    assert "^" in str(error)


def _error(text: str) -> QueryError | None:
    try:
        compile_query(text)
    except QueryError as error:
        return error
    return None
