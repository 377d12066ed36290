"""What `firstseen-native` says of a text is what the compiled queries say of it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.alike import TextClasses
from pipeline.kql import compile_node, text_test
from pipeline.kql.nodes import And, Is, Node, Not, Or, Text
from pipeline.kql.text_tests import TextJunction, TextLeaf
from pipeline.kql.values import KeywordType
from tests.scans import KINDS
from tests.strategies import TABLE, WORDS, literals

pytestmark = list(KINDS[1].marks)

WAYS = [
    KeywordType("keyword"),
    KeywordType("keyword", caseless=True),
    KeywordType("keyword", ignore_above=3),
]
TEXTS = st.one_of(
    st.sampled_from([*WORDS, "abcd", "ABAB", "C:\\Windows\\a.exe", 'a"b', "a/b"]),
    st.text("aAbB\\*", max_size=8),
    st.text(max_size=4),
)


def asking(names: Sequence[str]) -> st.SearchStrategy[Node]:
    """Parts of queries that ask these fields."""
    leaves = st.builds(Is, st.sampled_from(names), literals(TEXTS))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(tuple).map(And),
            st.lists(inner, min_size=2, max_size=3).map(tuple).map(Or),
            inner.map(Not),
        ),
        max_leaves=6,
    )


PARTS = st.one_of(
    *(
        st.tuples(st.just(names[0]), st.lists(asking(names), max_size=5))
        for names in (["k", "k.caseless"], ["o.short"], ["o.p.w"], ["c"])
    )
)
ESCAPES = st.sampled_from(["none", "slashes", "all"])


def written(text: str, escapes: str) -> str:
    """Return a text as it may stand in JSON, without its quotes."""
    if escapes == "all":
        units = text.encode("utf-16-be")
        return "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2))
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return escaped.replace("/", "\\/") if escapes == "slashes" else escaped


@given(PARTS, st.lists(st.sampled_from(WAYS), unique=True), TEXTS, ESCAPES)
def test_of_a_text_of_printable_ascii_both_say_the_same(
    asked: tuple[str, list[Node]], ways: list[KeywordType], text: str, escapes: str
) -> None:
    path, parts = asked
    tests = [text_test(part, TABLE) for part in parts]
    is_plain = text.isascii() and text.isprintable()
    if None in tests or (escapes == "all" and not is_plain):
        return
    classes = TextClasses(path, [compile_node(part, TABLE) for part in parts], ways, tests)
    native = classes.native
    assert native is not None
    assert native.of(written(text, escapes)) == (classes.of(text) if is_plain else None)


@given(asking(["k", "k.caseless"]))
def test_what_is_asked_of_a_keyword_is_known(node: Node) -> None:
    assert text_test(node, TABLE) is not None


def test_a_list_of_values_is_one_look_up() -> None:
    values = [Is("k", Text(str(number))) for number in range(9)]
    node = Or((*values, Not(Is("k", Text("a")))))

    test = text_test(node, TABLE)

    assert isinstance(test, TextJunction)
    assert [len(each.exact) for each in test.children if isinstance(each, TextLeaf)] == [9]
    assert len(test.children) == 2


def test_what_knows_more_than_whole_texts_is_left() -> None:
    parts = [
        Is("o.msg", Text("a")),
        Is("unmapped", Text("a")),
        Is("k.text", Text("a")),
        Is(None, Text("a")),
        Not(Is("o.n", Text("1"))),
    ]
    assert [text_test(part, TABLE) for part in parts] == [None] * len(parts)
