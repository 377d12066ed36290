"""The compiled matcher means what the naive interpreter says, and never raises."""

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from pipeline.errors import QueryError, TooCostlyError
from pipeline.kql import (
    Budget,
    Memo,
    compile_node,
    exact_clauses,
    explain,
    required_clauses,
)
from pipeline.kql.nodes import Is, Nested, Not, Or, Range, Text, Wildcard
from tests import naive_kql
from tests.strategies import (
    FIELDS,
    TABLE,
    events,
    json_documents,
    keyword_events,
    keyword_queries,
    queries,
    selective_queries,
    wordy_events,
)


def _compiled(node):
    """The matcher, or None when the query is refused (then the naive one refuses it too)."""
    try:
        naive_kql.check(node)
    except naive_kql.RefusedError:
        with pytest.raises(QueryError):
            compile_node(node, TABLE)
        return None
    return compile_node(node, TABLE)


@settings(max_examples=400)
@given(queries(), st.lists(events(), min_size=1, max_size=5))
@example(Is("k.caseless", Text("İ")), [{"k": "i"}])
@example(Is("o", Wildcard(("", ""))), [{"o": {"p": {"w": 1}}}, {"o": {"n": "x"}}])
@example(Range("o.n", "<", Text("1e3")), [{"o": {"n": 10**400}}])
@example(Is("flat", Text("a")), [{"flat": [{"x": [["a"]]}]}, {"flat.x": {"y": "a"}}])
def test_the_matcher_agrees_with_the_naive_interpreter(node, documents) -> None:
    matcher = _compiled(node)
    assume(matcher is not None)

    for event in documents:
        assert naive_kql.matches(node, event) == matcher(event)


@settings(max_examples=200)
@given(
    st.lists(st.one_of(queries(), selective_queries()), min_size=1, max_size=4),
    st.one_of(events(), wordy_events()),
)
def test_queries_that_share_a_memo_say_what_each_says_alone(nodes, event) -> None:
    memo = Memo()
    # As if every text were a long one, and every event large.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.kql.matching.LONG", -1)
        patch.setattr("pipeline.kql.compiler.FEW_OBJECTS", -1)
        patch.setattr("pipeline.kql.fields._SEARCHES", 0)
        for node in nodes:
            matcher = _compiled(node)
            if matcher is not None:
                assert naive_kql.matches(node, event) == matcher(event, memo)


@settings(max_examples=200)
@given(queries(), st.one_of(events(), wordy_events()), st.integers(0, 10_000))
@example(Nested("nest", Is("k", Wildcard(("a", "")))), {"nest": [{"k": "ab"}] * 9}, 0)
def test_a_matcher_that_may_not_spend_all_says_the_same_or_that_it_may_not(
    node, event, budget
) -> None:
    matcher = _compiled(node)
    assume(matcher is not None)

    try:
        verdict = matcher(event, Memo(Budget(budget)))
    except TooCostlyError:
        return
    assert naive_kql.matches(node, event) == verdict


@given(queries(), events())
def test_an_explanation_agrees_with_the_matcher(node, event) -> None:
    matcher = _compiled(node)
    assume(matcher is not None)

    assert matcher(event) == explain(node, TABLE, event).matches


@given(queries(), events())
def test_a_negation_is_the_complement(node, event) -> None:
    matcher = _compiled(node)
    assume(matcher is not None)

    assert (not matcher(event)) == compile_node(Not(node), TABLE)(event)


@given(queries(), json_documents())
@example(Is("k", Text("a")), {"k": float("inf")})
@example(Is("k.caseless", Text("\ud800")), {"k": "\ud800", "o": {"short": "a\ud800b"}})
@example(Is("o.n", Text("1")), {"o": {"n": float("nan")}})
@example(Is("o.x", Text("1")), {"o": {"x": 10**5000}})
@example(Is("k", Text("1")), {"k": 10**5000})
@example(Is("t", Text("1")), {"t": float("nan")})
def test_no_document_makes_a_matcher_raise(node, document) -> None:
    matcher = _compiled(node)
    assume(matcher is not None)

    assert matcher(document) in {True, False}


@given(json_documents())
def test_no_document_makes_terms_raise(document) -> None:
    for name in ["k", "k.caseless", "o.short", "o.n", "o.x", "b", "ip", "t", "c", "flat", "flat.a"]:
        terms = TABLE.terms(name)(document)

        assert len(set(terms)) == len(terms)
        assert all(isinstance(term, str | int | float | bool) for term in terms)


def _every_field_tested():
    everything = Wildcard(("", ""))
    names = [name for name in FIELDS if not name.startswith("nest")]
    clauses = [Is(name, everything) for name in [*names, "k.caseless", "k.text", "flat.a", "o"]]
    inside = Is("k", Text("x"))
    nested = [Nested("nest", inside), Nested("nest", Nested("deep", inside))]
    return Or(tuple(Not(node) for node in [*clauses, *nested, Is(None, Text("x"))]))


def _deep(levels: int, key: str | None):
    document = "x"
    for _ in range(levels):
        document = [document] if key is None else {key: document}
    return document


@pytest.mark.parametrize("key", [None, "k", "o", "nest", "flat", "dyn", "ip", "a.b"])
@pytest.mark.parametrize("name", ["k", "o", "nest", "flat", "dyn", "ip", "geo"])
def test_deep_documents_cost_no_stack(key: str | None, name: str) -> None:
    matcher = compile_node(_every_field_tested(), TABLE)

    assert matcher({name: _deep(100_000, key)}) in {True, False}


@settings(max_examples=400, suppress_health_check=[HealthCheck.filter_too_much])
@given(selective_queries(), st.lists(wordy_events(), min_size=1, max_size=5))
@example(Is("k.caseless", Text("power\u212a", quoted=True)), [{"k": "POWERK"}])
@example(Or((Is("k", Text("abcd")), Is("o.k", Text("efgh")))), [{"k": "abcd"}])
@example(Is("k", Wildcard(("", "0000", ""))), [{"k": 1e16}])
def test_a_matching_event_holds_a_needle_of_each_required_clause(node, documents) -> None:
    matcher = _compiled(node)
    assume(matcher is not None)
    clauses = required_clauses(node, TABLE)
    assume(clauses)

    for event in documents:
        if matcher(event):
            for clause in clauses:
                assert any(naive_kql.holds(needle, event) for needle in clause)


@settings(max_examples=400)
@given(
    st.one_of(
        st.tuples(keyword_queries(), st.lists(keyword_events(), min_size=2, max_size=5)),
        st.tuples(queries(), st.lists(keyword_events() | events(), max_size=3)),
    )
)
@example((Is("o.short", Text("abcd")), [{"o.short": "abcd"}]))
def test_a_matching_event_has_a_value_of_each_exact_clause(drawn) -> None:
    node, documents = drawn
    matcher = _compiled(node)
    assume(matcher is not None)

    for event in documents:
        if matcher(event):
            for clause in exact_clauses(node, TABLE):
                assert any(naive_kql.matches(_equal(exact), event) for exact in clause)


def _equal(exact):
    return Is(exact.field.name, Text(exact.value, quoted=True))
