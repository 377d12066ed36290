from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kql import FieldTable
from pipeline.rules.filter_clauses import UnsupportedFilterError
from pipeline.rules.filters import canonical_filters, compile_filters

FIELDS = FieldTable.builtin()


def matches(clause, event, **meta):
    matcher = compile_filters([{"meta": meta, "query": clause}], FIELDS)
    assert matcher is not None
    return matcher(event)


def executable(text):
    return {"process": {"executable": text}}


SIGNATURE = "dll.Ext.code_signature"
SIGNED = {"match_phrase": {f"{SIGNATURE}.subject_name": "A"}}


def in_signature(clause, path=SIGNATURE, **others):
    """A filter on one signature of a library."""
    return {"query": {"nested": {"path": path, "query": clause, **others}}}


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        ({"value": "?:\\\\Windows\\\\*"}, "C:\\Windows\\a.exe", True),
        ({"value": "?:\\\\Windows\\\\*"}, "C:\\WINDOWS\\a.exe", False),
        ({"value": "?:\\\\Windows\\\\*", "case_insensitive": True}, "c:\\WINDOWS\\a.exe", True),
        ({"value": "?:\\\\Windows\\\\*", "case_insensitive": False}, "c:\\WINDOWS\\a", False),
        ({"wildcard": "*.exe", "boost": 1.0}, "a.exe", True),
        ("*.exe", "a.exe", True),
        ("*.exe", ["a.dll", "b.exe"], True),
        ("*.exe", [], False),
        ("*", "x" * 1025, False),
    ],
)
def test_a_wildcard_clause_is_asked_of_each_indexed_value(spec, value, expected):
    assert matches({"wildcard": {"process.executable": spec}}, executable(value)) is expected


def test_a_field_name_without_quotes_in_toml_is_the_same_field():
    nested = {"wildcard": {"process": {"executable": {"value": "*.exe"}}}}

    assert matches(nested, executable("a.exe"))


def test_a_pattern_on_a_caseless_field_loses_its_case():
    clause = {"wildcard": {"process.name.caseless": {"value": "CMD*"}}}

    assert matches(clause, {"process": {"name": "cmd.exe"}})
    assert matches(clause, {"process": {"name": "Cmd.exe"}})


@pytest.mark.parametrize(
    ("clause", "event", "expected"),
    [
        (
            {"match_phrase": {"event.category": "process"}},
            {"event": {"category": ["process"]}},
            True,
        ),
        ({"match_phrase": {"event.category": {"query": "file"}}}, {"event.category": "x"}, False),
        ({"match_phrase": {"process.pid": 4}}, {"process": {"pid": 4}}, True),
        (
            {"match_phrase": {"dll.code_signature.trusted": True}},
            {"dll.code_signature.trusted": True},
            True,
        ),
        ({"match_phrase": {"source.ip": "10.0.0.0/8"}}, {"source.ip": "10.1.2.3"}, True),
        ({"match_phrase": {"message": "quick fox"}}, {"message": "the Quick fox ran"}, True),
        ({"match_phrase": {"user.name": 'a"b\\c*'}}, {"user.name": 'a"b\\c*'}, True),
        ({"match": {"user.name": {"query": "a b", "type": "phrase"}}}, {"user.name": "a b"}, True),
        ({"term": {"user.name": "root"}}, {"user.name": "root"}, True),
        ({"term": {"user.name": {"value": "root"}}}, {"user.name": "ROOT"}, False),
        (
            {"term": {"user.name": {"value": "r*", "case_insensitive": True}}},
            {"user.name": "R*"},
            True,
        ),
        (
            {"term": {"user.name": {"value": "r*", "case_insensitive": True}}},
            {"user.name": "RX"},
            False,
        ),
        ({"terms": {"user.name": ["a", "b"]}}, {"user.name": "b"}, True),
        ({"terms": {"user.name": ["a", "b"]}}, {"user.name": "c"}, False),
        ({"prefix": {"user.name": "svc-*"}}, {"user.name": "svc-*1"}, True),
        ({"prefix": {"user.name": "svc-*"}}, {"user.name": "svc-x"}, False),
        (
            {"prefix": {"user.name": {"value": "SVC", "case_insensitive": True}}},
            {"user.name": "svc1"},
            True,
        ),
        ({"exists": {"field": "user.name"}}, {"user.name": ""}, True),
        ({"exists": {"field": "user.name"}}, {"user": {"name": None}}, False),
        ({"exists": {"field": "user"}}, {"user": {"name": "x"}}, True),
        ({"range": {"process.pid": {"gte": 4, "lt": 6}}}, {"process.pid": 5}, True),
        ({"range": {"process.pid": {"gte": 4, "lt": 6}}}, {"process.pid": 6}, False),
        ({"range": {"process.pid": {"gt": 4, "lte": 6}}}, {"process.pid": [4, 7]}, False),
        (
            {"range": {"@timestamp": {"gte": "2024-01-01"}}},
            {"@timestamp": "2024-06-01T00:00:00Z"},
            True,
        ),
        ({"range": {"acme.number": {"gte": 4}}}, {"acme.number": 5}, False),
        ({"term": {"user.name": "Ann B."}}, {"user.name": "Ann B."}, True),
        ({"terms": {"user.name": ["a b", "Ann B."]}}, {"user.name": "Ann B."}, True),
        ({"match_all": {}}, {}, True),
        ({"match_none": {}}, {}, False),
        ({"wildcard": {"acme.field": "*"}}, {"acme.field": "x"}, False),
    ],
)
def test_a_clause_says_what_elasticsearch_says(clause, event, expected):
    assert matches(clause, event) is expected


A, B, C = ({"term": {"user.name": name}} for name in "abc")


@pytest.mark.parametrize(
    ("body", "names", "expected"),
    [
        ({"must": [A, B]}, ["a", "b"], True),
        ({"must": [A, B]}, ["a"], False),
        ({"filter": A}, ["a"], True),
        ({"must_not": [A]}, ["b"], True),
        ({"must_not": [A]}, ["a"], False),
        ({"should": [A, B]}, ["b"], True),
        ({"should": [A, B]}, ["c"], False),
        ({"must": [C], "should": [A, B]}, ["c"], True),
        ({"must": [C], "should": [A, B], "minimum_should_match": 1}, ["c"], False),
        ({"should": [A, B, C], "minimum_should_match": 2}, ["a", "c"], True),
        ({"should": [A, B, C], "minimum_should_match": 2}, ["a"], False),
        ({"must_not": [], "must": [], "filter": [], "should": []}, [], True),
        ({"must": [], "filter": [], "must_not": [], "should": [A, B]}, ["c"], False),
        ({"must": [], "filter": [], "must_not": [], "should": [A, B]}, ["b"], True),
        ({"must_not": [C], "should": [A, B]}, ["d"], False),
        ({"must": [C], "should": [], "minimum_should_match": 1}, ["c"], False),
        ({"must_not": [C], "should": [], "minimum_should_match": 1}, ["a"], True),
        ({"must_not": [C], "should": [], "minimum_should_match": 1}, ["c"], False),
        ({"should": [A, B], "minimum_should_match": 0}, ["c"], False),
        ({"should": [A, B], "minimum_should_match": 0}, ["b"], True),
        ({"must_not": [C], "should": [A], "minimum_should_match": 0}, ["b"], False),
        ({"must": [C], "should": [A], "minimum_should_match": 0}, ["c"], True),
        ({"must": [C], "should": [A], "minimum_should_match": 2}, ["a", "c"], False),
        ({"must": [], "should": [], "minimum_should_match": 1}, ["c"], True),
        ({"must": [{"bool": {"must_not": [{"bool": {"should": [A, B]}}]}}]}, ["a"], False),
    ],
)
def test_a_bool_clause_joins_its_clauses(body, names, expected):
    assert matches({"bool": body}, {"user": {"name": names}}) is expected


def test_negate_turns_a_filter_round_and_disabled_skips_it():
    clause = {"exists": {"field": "user.name"}}

    assert not matches(clause, {"user.name": "x"}, negate=True)
    assert matches(clause, {}, negate=True)
    assert compile_filters([{"meta": {"disabled": True}, "query": {"fuzzy": 1}}], FIELDS) is None


def test_the_dates_of_toml_are_compared_as_dates():
    clause = {"range": {"@timestamp": {"gte": datetime(2024, 1, 1, tzinfo=UTC)}}}

    assert matches(clause, {"@timestamp": "2024-01-01T00:00:00Z"})
    assert not matches(clause, {"@timestamp": "2023-12-31T23:59:59Z"})


def test_several_filters_have_to_hold_together():
    matcher = compile_filters([{"query": A}, {"query": B}], FIELDS)

    assert matcher is not None
    assert matcher({"user.name": ["a", "b"]})
    assert not matcher({"user.name": "a"})


def test_no_filter_is_no_matcher():
    assert compile_filters([], FIELDS) is None


def test_a_clause_beside_meta_is_read_like_one_in_query():
    matcher = compile_filters(
        [{"meta": {"negate": True}, "exists": {"field": "user.name"}}], FIELDS
    )

    assert matcher is not None
    assert matcher({})


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ({"query": {"fuzzy": {"user.name": "x"}}}, (0, "query", "fuzzy")),
        ({"query": {}}, (0, "query")),
        ({"query": {**A, "exists": {"field": "x"}}}, (0, "query")),
        ({"meta": {}}, (0,)),
        ({"meta": {"negate": "yes"}, "query": A}, (0, "meta", "negate")),
        (
            {"meta": {"type": "combined", "relation": "OR", "params": [{"query": B}]}, "query": A},
            (0, "meta", "type"),
        ),
        ({"query": {"term": "x"}}, (0, "query", "term")),
        ({"query": {"term": {"a": 1, "b": 2}}}, (0, "query", "term")),
        ({"query": {"term": {"user.name": ["a"]}}}, (0, "query", "term")),
        (
            {"query": {"term": {"user.name": {"value": 1, "case_insensitive": True}}}},
            (0, "query", "term"),
        ),
        ({"query": {"term": {"process.pid": "many"}}}, (0, "query", "term")),
        ({"query": {"terms": {"user.name": []}}}, (0, "query", "terms")),
        ({"query": {"match": {"user.name": "a"}}}, (0, "query", "match")),
        ({"query": {"match_all": {"boost": 2}}}, (0, "query", "match_all", "boost")),
        ({"query": {"exists": {"field": 1}}}, (0, "query", "exists")),
        ({"query": {"prefix": {"user.name": 1}}}, (0, "query", "prefix")),
        ({"query": {"range": {"process.pid": {}}}}, (0, "query", "range")),
        ({"query": {"range": {"process.pid": {"gte": "many"}}}}, (0, "query", "range")),
        ({"query": {"range": {"user": {"gte": 1}}}}, (0, "query", "range")),
        ({"query": {"range": {"dll.pe.sections.entropy": {"gte": 7}}}}, (0, "query", "range")),
        ({"query": {"range": {"process.pid": {"from": 7}}}}, (0, "query", "range")),
        ({"query": {"range": {"process.pid": {"gte": 7, "boost": 2}}}}, (0, "query", "range")),
        (
            {"query": {"range": {"@timestamp": {"gte": "2024", "format": "yyyy"}}}},
            (0, "query", "range", "format"),
        ),
        ({"query": {"term": {"process.name": {"val": "x"}}}}, (0, "query", "term")),
        (
            {"query": {"match_phrase": {"process.name": {"phrase": "x"}}}},
            (0, "query", "match_phrase"),
        ),
        ({"query": {"wildcard": {"process.name": {"glob": "x*"}}}}, (0, "query", "wildcard")),
        ({"query": {"exists": {"field": "process.*"}}}, (0, "query", "exists", "field")),
        ({"query": {"term": {"message": "Quick Brown"}}}, (0, "query", "term")),
        ({"query": {"terms": {"message": ["quick", "Brown"]}}}, (0, "query", "terms")),
        ({"query": {"wildcard": {"user.name": 1}}}, (0, "query", "wildcard")),
        ({"query": {"wildcard": {"process.pid": "4*"}}}, (0, "query", "wildcard")),
        (
            {"query": {"wildcard": {"dll.Ext.code_signature.subject_name": "4*"}}},
            (0, "query", "wildcard"),
        ),
        ({"query": {"bool": {"musts": []}}}, (0, "query", "bool", "musts")),
        ({"query": {"bool": {"must": 1}}}, (0, "query", "bool", "must")),
        (
            {"query": {"bool": {"must": [A, {"fuzzy": {}}]}}},
            (0, "query", "bool", "must", 1, "fuzzy"),
        ),
        (
            {"query": {"bool": {"should": [A], "minimum_should_match": "75%"}}},
            (0, "query", "bool", "minimum_should_match"),
        ),
        (
            {"query": {"bool": {"should": [A], "minimum_should_match": -1}}},
            (0, "query", "bool", "minimum_should_match"),
        ),
        (in_signature(A), (0, "query", "nested", "query", "term")),
        (in_signature({"bool": {"must": []}}), (0, "query", "nested", "query", "bool")),
        (
            in_signature({"match_phrase": {"process.name": "x"}}),
            (0, "query", "nested", "query", "match_phrase"),
        ),
        (
            in_signature({"bool": {"must": [{"fuzzy": {}}]}}),
            (0, "query", "nested", "query", "bool", "must", 0, "fuzzy"),
        ),
        (in_signature({}), (0, "query", "nested", "query")),
        (in_signature(SIGNED, path=1), (0, "query", "nested", "path")),
        (in_signature(SIGNED, path="process"), (0, "query", "nested", "query", "match_phrase")),
        (in_signature(SIGNED, path="dll"), (0, "query", "nested")),
        (in_signature(SIGNED, ignore_unmapped=True), (0, "query", "nested", "ignore_unmapped")),
    ],
)
def test_what_cannot_be_evaluated_is_refused_at_its_place(entry, place):
    with pytest.raises(UnsupportedFilterError) as caught:
        compile_filters([entry], FIELDS)

    assert caught.value.place == place


@pytest.mark.parametrize(
    ("joined", "found"),
    [
        ("filter", [False, False, True]),
        ("must", [False, False, True]),
        ("should", [True, False, True]),
        ("must_not", [True, True, False]),
    ],
)
def test_a_nested_clause_speaks_of_one_object(joined, found):
    status = {"match_phrase": {f"{SIGNATURE}.status": "trusted"}}
    clause = in_signature({"bool": {joined: [SIGNED, status]}})["query"]
    split = [{"subject_name": "A"}, {"status": "x"}]
    events = [split, [{"status": "x"}], [{"subject_name": "A", "status": "trusted"}]]

    assert [
        matches(clause, {"dll": {"Ext": {"code_signature": objects}}}) for objects in events
    ] == found


def test_a_range_may_say_how_dates_are_read_anyway():
    clause = {"range": {"@timestamp": {"gte": "2024-05", "format": "strict_date_optional_time"}}}

    assert matches(clause, {"@timestamp": "2024-05-01T00:00:00Z"})
    assert not matches(clause, {"@timestamp": "2024-04-30T00:00:00Z"})


def test_a_term_of_a_text_is_one_of_its_words():
    assert matches({"term": {"message": "brown"}}, {"message": "The Brown Fox"})
    assert not matches({"term": {"message": "brow"}}, {"message": "The Brown Fox"})


def test_a_parameter_is_told_from_a_name_that_is_spelled_as_nested_tables():
    flattened = {"term": {"file": {"pe": {"imports": {"kernel32": "x"}}}}}
    multi_field = {"match_phrase": {"process": {"name": {"text": "tool"}}}}

    assert matches(flattened, {"file.pe.imports": {"kernel32": "x"}})
    assert matches(multi_field, {"process.name": "the tool"})


def test_fields_without_a_type_are_named():
    unmapped: dict[str, tuple[str | int, ...]] = {}
    nested = {
        "bool": {"must_not": [{"term": {"proces.name": "x"}}, {"exists": {"field": "acme.a"}}]}
    }
    clauses = [
        A,
        {"range": {"acme.b": {"gte": 1}}},
        nested,
        {"term": {"acme": {"c": {"value": 1}}}},
    ]

    compile_filters([{"query": clause} for clause in clauses], FIELDS, unmapped=unmapped)

    assert unmapped == {
        "acme.b": (1, "query", "range"),
        "proces.name": (2, "query", "bool", "must_not", 0, "term"),
        "acme.a": (2, "query", "bool", "must_not", 1, "exists", "field"),
        "acme.c": (3, "query", "term"),
    }


def test_clauses_may_not_be_nested_without_end():
    clause = A
    for _ in range(200):
        clause = {"bool": {"must": clause}}

    with pytest.raises(UnsupportedFilterError, match="too deep"):
        compile_filters([{"query": clause}], FIELDS)


def test_the_canonical_text_holds_what_a_filter_demands_and_no_more():
    plain = [{"query": A}]
    adorned = [
        {"meta": {"alias": "x", "negate": False}, "$state": {"store": "y"}, "query": A},
        {"meta": {"disabled": True}, "query": B},
    ]

    assert canonical_filters(plain) == canonical_filters(adorned)
    assert canonical_filters(plain) != canonical_filters([{"meta": {"negate": True}, "query": A}])


names = st.sampled_from(
    [
        "bool",
        "must",
        "should",
        "term",
        "range",
        "wildcard",
        "exists",
        "field",
        "value",
        "gte",
        "query",
        "user.name",
        "process.pid",
        "x",
    ]
)
clauses = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["meta", "query", "exists"]) | names, clauses, max_size=3))
def test_a_filter_compiles_or_is_refused_and_never_raises_otherwise(entry):
    try:
        matcher = compile_filters([entry], FIELDS)
    except UnsupportedFilterError:
        return
    if matcher is not None:
        assert matcher({"user": {"name": "x"}, "process": {"pid": 1}}) in {True, False}
