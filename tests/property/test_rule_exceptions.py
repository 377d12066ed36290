"""A rule with exceptions matches what its query matches and none of its exceptions covers."""

from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.kql import format_query
from pipeline.kql.nodes import And, Is, Nested, Node, Not, Or, Text, Wildcard
from pipeline.rules import CompiledRule, RuleSet
from pipeline.rules.exceptions import covers
from pipeline.rules.model import ExceptionItem
from pipeline.rules.parse_exceptions import parse_exceptions
from tests import naive_kql
from tests.rules import new_terms_rule
from tests.strategies import NAMES, NESTED_NAMES, TABLE, WORDS, events, queries

EXISTS = Wildcard(("", ""))


def compiled(query: Node, exceptions: list[ExceptionItem]) -> CompiledRule:
    rule = new_terms_rule(query=format_query(query), exceptions=tuple(exceptions))
    ruleset, _ = RuleSet.compile([rule], TABLE)
    assume(ruleset.rules)  # a type refuses a literal of the query
    return ruleset.rules[0]


@given(queries(), st.lists(queries(), max_size=3), st.lists(events(), min_size=1, max_size=4))
def test_an_exception_covers_what_its_query_matches(query, excepted, samples):
    items = [ExceptionItem(str(n), ("rule",), format_query(e)) for n, e in enumerate(excepted)]

    rule = compiled(query, items)

    used = [excepted[int(item.name)] for item in rule.rule.exceptions]
    assert rule.history_id == compiled(query, []).history_id
    for event in samples:
        covering = [naive_kql.matches(each, event) for each in used]
        assert [covers(item, event, TABLE) for item in rule.rule.exceptions] == covering
        assert rule.matcher(event) == (naive_kql.matches(query, event) and not any(covering))


def meaning(entry: dict) -> Node:
    """The KQL that an entry stands for in Kibana."""
    name, value = entry["field"], entry.get("value")
    if entry["type"] == "nested":
        inner = [meaning(each) for each in entry["entries"]]
        return Nested(name, inner[0] if len(inner) == 1 else And(tuple(inner)))
    texts = value if isinstance(value, list) else [value]
    if entry["type"] == "exists":
        node: Node = Is(name, EXISTS)
    else:
        nodes = tuple(Is(name, Text(text, quoted=True)) for text in texts)
        node = nodes[0] if len(nodes) == 1 else Or(nodes)
    return Not(node) if entry.get("operator") == "excluded" else node


def entries(names: list[str]) -> st.SearchStrategy[dict]:
    fixed = {"field": st.sampled_from(names)}
    optional = {"operator": st.sampled_from(["included", "excluded"])}
    values = st.sampled_from([*WORDS, "10.0.0.0/8", "2024-01"])
    return st.one_of(
        st.fixed_dictionaries(
            fixed | {"type": st.just("match"), "value": values}, optional=optional
        ),
        st.fixed_dictionaries(
            fixed
            | {"type": st.just("match_any"), "value": st.lists(values, min_size=1, max_size=3)},
            optional=optional,
        ),
        st.fixed_dictionaries(fixed | {"type": st.just("exists")}, optional=optional),
    )


nested = st.fixed_dictionaries(
    {
        "field": st.just("nest"),
        "type": st.just("nested"),
        "entries": st.lists(entries(NESTED_NAMES), min_size=1, max_size=3),
    }
)
lists = st.lists(st.lists(entries(NAMES) | nested, min_size=1, max_size=3), max_size=3)


@given(queries(), lists, st.lists(events(), min_size=1, max_size=4))
def test_an_item_of_a_list_covers_what_all_its_entries_match(query, items, samples):
    written = [{"name": str(n), "entries": each} for n, each in enumerate(items)]
    document = {"metadata": {"rule_ids": ["rule"]}, "exceptions": [{"items": written}]}
    exceptions, issues = parse_exceptions(document)
    assert issues == ()

    rule = compiled(query, list(exceptions))

    used = [[meaning(entry) for entry in items[int(x.name)]] for x in rule.rule.exceptions]
    for event in samples:
        covering = [all(naive_kql.matches(node, event) for node in nodes) for nodes in used]
        assert rule.matcher(event) == (naive_kql.matches(query, event) and not any(covering))
