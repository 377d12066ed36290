"""Hypothesis strategies: KQL nodes, and the events to try them on.

Names and values are drawn from small sets on purpose, so that queries and events meet.
"""

from __future__ import annotations

import string

from hypothesis import strategies as st

from pipeline.kql import FieldTable
from pipeline.kql.nodes import (
    LONE_STAR,
    And,
    Boolean,
    Is,
    Nested,
    Not,
    Null,
    Or,
    Range,
    Text,
    Wildcard,
)
from pipeline.kql.scanner import TRIMMED

FIELDS = {
    "k": {
        "type": "keyword",
        "multi_fields": {
            "caseless": {"type": "keyword", "normalizer": "lowercase"},
            "text": "text",
        },
    },
    "o.k": "keyword",
    "o.short": {"type": "keyword", "ignore_above": 3},
    "o.p.w": "wildcard",
    "o.msg": "match_only_text",
    "o.n": "long",
    "o.x": "double",
    "b": "boolean",
    "ip": "ip",
    "t": "date",
    "c": "constant_keyword",
    "flat": "flattened",
    "dyn": {"type": "object", "object_type": "keyword"},
    "geo": "geo_point",
    "nest": "nested",
    "nest.k": "keyword",
    "nest.n": "long",
    "nest.deep": "nested",
    "nest.deep.k": "keyword",
}
"""A field of every kind; the strategies below speak of them."""

TABLE = FieldTable.from_mapping(FIELDS)

WORDS = [
    "",
    "a",
    "ab",
    "A",
    "b",
    "aB c",
    "ab cd",
    "1",
    "2",
    "1.0",
    "true",
    "é",
    "Σ",
    "İ",
    "K",
    "攻a击",
]
NAMES = [
    *[name for name in FIELDS if "." not in name],
    *["k.caseless", "k.text", "o", "o.k", "o.short", "o.p", "o.p.w", "o.msg", "o.n", "o.x"],
    *["flat.a", "dyn.a", "flat.a.b", "unmapped", "un.mapped"],
]
NESTED_NAMES = ["k", "n", "unmapped", "deep"]

nasty_text = st.one_of(
    st.text(alphabet=' \t\r\n\u00a0orandtnOTN\\"():<>*{}u0041é\u3000😀', max_size=12),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(
        ["or", "and", "not", "x not", "or or", "not a", "null", "true", "a and", "\\not"]
    ),
)

_PIECES = [
    *["a", "b", "f", "1", '"x"', "null", "true", "process.pid", "dll.Ext.code_signature"],
    *[":", "(", ")", "{", "}", '"', "\\", "*", "<", ">="],
    *[" ", "  ", "\n", "\xa0", "\u3000"],
    *[" or ", " and ", " OR ", "not ", "NOT\t", "or", "and", "not"],
    *["\\u0041", "\\u00e9", "\\not", "\\or", "\\t"],
    *["f:", "g:", "f:a", "f:(a or b)", "n:{ a:b }", "g > 1"],
]


def query_texts(pieces: int) -> st.SearchStrategy[str]:
    """Texts of up to so many pieces of KQL, and nasty ones; some of them are queries."""
    return st.one_of(st.lists(st.sampled_from(_PIECES), max_size=pieces).map("".join), nasty_text)


def _unquoted(text: str) -> Text:
    trimmed = text.strip(TRIMMED)
    return Text(trimmed, quoted=trimmed in {"null", "true", "false"})


def _wildcard(parts: list[str]) -> Wildcard:
    return Wildcard((parts[0].lstrip(TRIMMED), *parts[1:-1], parts[-1].rstrip(TRIMMED)))


def literals(texts: st.SearchStrategy[str]) -> st.SearchStrategy:
    """Literals of every kind that a parser can make of these texts, but null."""
    return st.one_of(
        texts.map(lambda text: Text(text, quoted=True)),
        texts.map(_unquoted),
        st.lists(texts, min_size=2, max_size=4).map(_wildcard),
        st.booleans().map(Boolean),
        st.just(LONE_STAR),
    )


def _grown(leaves: st.SearchStrategy, nested: st.SearchStrategy | None) -> st.SearchStrategy:
    def extend(children: st.SearchStrategy) -> st.SearchStrategy:
        several = st.lists(children, min_size=2, max_size=4).map(tuple)
        choices = [several.map(And), several.map(Or), children.map(Not)]
        if nested is not None:
            choices.append(st.builds(Nested, nested, children))
        return st.one_of(choices)

    return st.recursive(leaves, extend, max_leaves=8)


def nodes(texts: st.SearchStrategy[str] = nasty_text) -> st.SearchStrategy:
    """Nodes of any shape that a parser can make, with nasty names and values."""
    values = st.one_of(literals(texts), st.just(Null()))
    names = st.one_of(texts, st.lists(texts, min_size=2, max_size=3).map(_wildcard))
    leaves = st.one_of(
        st.builds(Is, st.one_of(st.none(), names), values),
        st.builds(Range, names, st.sampled_from(["<", "<=", ">", ">="]), values),
    )
    return _grown(leaves, texts)


_ADDRESSES = ["10.0.0.1", "10.0.0.0/8", "::1", "::ffff:10.0.0.1", "2001:db8::/32", "::1%2", "x"]
_DATES = ["2024", "2024-01", "2024-01-31T10:00:00Z", "1706659200000", "2024-02-30"]
_values = literals(st.sampled_from([*WORDS, *_ADDRESSES, *_DATES, "42.5", "-1", "1e3"]))


def _clauses(names: list[str]) -> st.SearchStrategy:
    name = st.one_of(
        st.sampled_from(names),
        st.sampled_from([Wildcard(("k", "")), Wildcard(("o.", "k")), Wildcard(("n", "k"))]),
    )
    return st.one_of(
        st.builds(Is, name, _values),
        st.builds(Is, st.none(), _values),
        st.builds(Range, name, st.sampled_from(["<", "<=", ">", ">="]), _values),
    )


def queries() -> st.SearchStrategy:
    """Nodes over `FIELDS`; some of them are refused by a type."""
    deep = st.builds(Nested, st.just("deep"), _grown(_clauses(["k", "unmapped"]), None))
    inside = st.one_of(_clauses(NESTED_NAMES), deep)
    nested = st.builds(Nested, st.just("nest"), _grown(inside, None))
    return _grown(st.one_of(_clauses(NAMES), _clauses(NAMES), nested), None)


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, 2, 42, -1, 2**63, 10**400, 1706659200000]),
    st.sampled_from([0.0, 1.0, 1.5, -0.5, 1e300, 42.9]),
    st.sampled_from([*WORDS, "abcd", *_ADDRESSES, *_DATES, "x" * 1025, "😀" * 600]),
)


def _json(scalars: st.SearchStrategy, keys: st.SearchStrategy) -> st.SearchStrategy:
    return st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)
        ),
        max_leaves=12,
    )


_KEYS = st.sampled_from(
    [
        "k",
        "o",
        "p",
        "w",
        "n",
        "x",
        "b",
        "ip",
        "t",
        "c",
        "msg",
        "short",
        "flat",
        "dyn",
        "a",
        "geo",
        "nest",
        "deep",
        "o.k",
        "o.p",
        "p.w",
        "o.p.w",
        "nest.k",
        "nest.deep",
        "deep.k",
        "flat.a",
        "flat.a.b",
        "caseless",
        "k.caseless",
        "unmapped",
        "",
    ]
)


def events() -> st.SearchStrategy:
    """JSON objects, any shape in any field, with names and values of `FIELDS`."""
    loose = st.dictionaries(_KEYS, _json(_scalars, _KEYS), max_size=6)
    likely = st.fixed_dictionaries(
        {},
        optional={
            "k": _scalars,
            "o": st.fixed_dictionaries(
                {}, optional=dict.fromkeys(["k", "short", "msg", "n", "x"], _scalars)
            ),
            "b": _scalars,
            "ip": _scalars,
            "t": _scalars,
            "c": _scalars,
            "flat": _json(_scalars, st.sampled_from(["a", "b", "a.b"])),
            "nest": st.lists(
                st.fixed_dictionaries({}, optional={"k": _scalars, "n": _scalars}), max_size=3
            ),
        },
    )
    return st.one_of(loose, likely)


def json_documents() -> st.SearchStrategy:
    """Any JSON value at all."""
    keys = st.one_of(_KEYS, st.text(string.printable, max_size=5))
    numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
    return _json(st.one_of(_scalars, numbers, st.text(max_size=6)), keys)


_LONG_WORDS = [
    *["powershell.exe", "PowerShell.EXE", "System.Management.Automation", "C:\\Windows\\cmd.exe"],
    *["kernel32.dll", "KERNEL32.DLL", "\u212aernel32.dll", "İstanbul", "istanbul", "<script>/x&y"],
    *[
        "100000.0",
        "1e16",
        "1" * 20,
        "true",
        "false",
        "quick brown fox",
        "Quick-Brown",
        'a "quoted" b',
    ],
]


def selective_queries() -> st.SearchStrategy:
    """Queries for long words in fields that are compared as text: prefilters feed on them."""
    words = st.sampled_from(_LONG_WORDS)
    pieces = st.one_of(words, words.map(lambda word: word[2:8]))
    patterns = pieces.map(lambda piece: Wildcard(("", piece, "")))
    values = st.one_of(
        st.builds(Text, words, st.booleans()),
        patterns,
        patterns,
        st.lists(pieces, min_size=2, max_size=3).map(_wildcard),
    )
    names = ["k", "k.caseless", "k.text", "o.k", "o.p.w", "o.msg", "c", "flat", "flat.a"]
    clauses = st.builds(Is, st.sampled_from(names), values)
    nested = st.builds(Nested, st.just("nest"), st.builds(Is, st.just("k"), values))
    leaves = st.one_of(clauses, clauses, nested)
    several = st.lists(leaves, min_size=2, max_size=3).map(tuple)
    return st.one_of(leaves, several.map(Or), several.map(And), _grown(leaves, None))


def wordy_events() -> st.SearchStrategy:
    """Events full of the words that `selective_queries` ask for."""
    words = st.sampled_from(
        [*_LONG_WORDS, *(f"x {word} y" for word in _LONG_WORDS), True, 1e16, 100000.0, 11111]
    )
    values = st.one_of(words, st.lists(words, max_size=4))
    return st.fixed_dictionaries(
        {
            "k": values,
            "o": st.fixed_dictionaries({"k": values, "msg": values, "p.w": values}),
            "c": values,
            "flat": st.fixed_dictionaries({"a": values, "b": values}),
            "nest": st.lists(st.fixed_dictionaries({"k": values}), max_size=2),
        }
    )


_TERSE_TEXTS = ["a", "A", "ab", "true", "1", "İ", "i", "\u212a", "k", "a" * 1100]


def keyword_queries() -> st.SearchStrategy:
    """Queries for whole values of keywords, with "or" and "and": indexes of rules feed on them."""
    clauses = st.builds(
        Is,
        st.sampled_from(["k", "k.caseless", "o.k", "o.short", "o.p.w", "c", "flat", "flat.a"]),
        st.sampled_from(_TERSE_TEXTS).map(lambda text: Text(text, quoted=True)),
    )
    several = st.lists(clauses, min_size=2, max_size=3).map(tuple).map(Or)
    demands = st.lists(clauses | several, min_size=2, max_size=3).map(tuple).map(And)
    return st.one_of(clauses, several, demands)


def keyword_events() -> st.SearchStrategy:
    """Events of the values that `keyword_queries` ask for."""
    scalars = st.sampled_from([*_TERSE_TEXTS, 1, True, None, 1.5])
    values = st.one_of(scalars, st.lists(scalars, max_size=4))
    return st.fixed_dictionaries(
        {
            "k": values,
            "o": st.fixed_dictionaries({"k": values, "short": values, "p.w": values}),
            "c": values,
            "flat": st.fixed_dictionaries({"a": values, "b": values}),
        }
    )
