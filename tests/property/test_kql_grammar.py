"""The parser reads the same language as the backtracking grammar, into the same nodes."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.errors import QuerySyntaxError
from pipeline.kql import format_query, parse
from tests import naive_grammar
from tests.strategies import nodes, query_texts


def _parsed(text: str):
    try:
        return parse(text)
    except QuerySyntaxError:
        return None


@settings(max_examples=1000)
@given(query_texts(9))
@example("a or and b")
@example("f:x and")
@example("f:x and ")
@example("not")
@example("a and not")
@example("f:(a or not)")
@example("f:(or or or)")
@example("a \u00a0or\u3000 b")
@example("\\t")
@example("null:a")
@example("null:(a or not b)")
@example("null:(a:b)")
@example('"null":a')
@example("null > 1")
@example("null:{ a:b }")
def test_the_parser_agrees_with_the_grammar(text: str) -> None:
    assert naive_grammar.parse(text) == _parsed(text)


@given(nodes(), st.integers(min_value=0), st.sampled_from(['"', "(", ")", " ", "\\", "not ", ""]))
def test_they_agree_on_slightly_broken_queries(node, place: int, mistake: str) -> None:
    text = format_query(node)
    at = place % (len(text) + 1)
    broken = text[:at] + mistake + text[at + 1 :]

    assert naive_grammar.parse(broken) == _parsed(broken)
