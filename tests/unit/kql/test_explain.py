import pytest

from pipeline.errors import QueryTypeError
from pipeline.kql import Explanation, FieldTable, explain, field_names, format_query, parse

TABLE = FieldTable.builtin()


def _explain(query: str, event: dict) -> Explanation:
    return explain(parse(query), TABLE, event)


def test_every_clause_is_explained_even_when_one_decides() -> None:
    event = {"process": {"name": "cmd.exe", "pid": 4}}

    tree = _explain("process.name:powershell.exe and not process.pid > 3", event)

    assert tree == Explanation(
        query="process.name:powershell.exe and not process.pid > 3",
        operator="and",
        matches=False,
        children=(
            Explanation("process.name:powershell.exe", "clause", False, ("cmd.exe",)),
            Explanation(
                "not process.pid > 3",
                "not",
                False,
                children=(Explanation("process.pid > 3", "clause", True, (4,)),),
            ),
        ),
    )


def test_a_nested_block_is_explained_object_by_object() -> None:
    objects = [{"trusted": True, "subject_name": "B"}, {"trusted": False, "subject_name": "A"}]

    tree = _explain(
        "dll.Ext.code_signature:{ trusted:true and subject_name:A }",
        {"dll": {"Ext": {"code_signature": objects}}},
    )

    assert (tree.operator, tree.matches) == ("nested", False)
    assert objects == [child.values[0] for child in tree.children]
    assert [[True, False], [False, True]] == [
        [clause.matches for clause in child.children[0].children] for child in tree.children
    ]


def test_a_clause_that_can_never_match_says_why() -> None:
    assert "did you mean process.name?" in (_explain("proces.name:x", {}).note or "")
    assert "not in the field table" in (_explain("zzz:x", {}).note or "")
    assert "only `:*` can match" in (_explain("process:x", {"process": {"name": "x"}}).note or "")


def test_values_that_are_not_indexed_are_told() -> None:
    def note(query: str, **values: object) -> str:
        return _explain(query, values).note or ""

    assert note("user.name:*", user={"name": "x" * 1_025}) == (
        "not indexed: no keyword, or longer than 1024"
    )
    assert note("process.pid:7", process={"pid": "7x"}) == "not indexed: no long"
    assert note("source.ip:*", source={"ip": ["bad", "::1"]}) == "1 of them not indexed: no ip"
    assert note("process.pid:7", process={"pid": 7}) == ""


def test_a_field_wildcard_shows_all_values_it_read() -> None:
    tree = _explain("process.n*:*", {"process": {"name": "a"}})

    assert tree.matches
    assert set(tree.values) == {"a"}


def test_explaining_refuses_what_compiling_refuses() -> None:
    for query in ["process.pid:x or process.name:a", "process:{ name:a }", "dll.Ext:{ a:b }"]:
        with pytest.raises(QueryTypeError):
            _explain(query, {})


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a:b and (c:(d or e) or not f > 1)", {"a", "c", "f"}),
        ("n:{ a:b and m:{ c:d } }", {"n.a", "n.m.c"}),
        ("n:{ a:b and c }", {"n.a", "n.null"}),
        ("process.*:x or *:*", {"process.*"}),
        ("free text", set()),
        ("", set()),
    ],
)
def test_field_names(query: str, expected: set[str]) -> None:
    assert expected == field_names(parse(query))


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        ("", "*:*"),
        ("  a : b   AND\n(c:d)  ", "a:b and c:d"),
        ("(a:b or a:c) and a:d", "a:((b or c) and d)"),
        ("a:b or a:(not c)", "a:(b or not c)"),
        ("not (a:b or a:c)", "not a:(b or c)"),
        ("not (a:b or c:d)", "not (a:b or c:d)"),
        ('"a":"b"', 'a:"b"'),
        (r"a:C\:\\Windows\\*", r"a:C\:\\Windows\\*"),
        ("a>=1", "a >= 1"),
        ("n:{a:b}", "n:{ a:b }"),
        ("john   smith", "john   smith"),
    ],
)
def test_the_canonical_text(query: str, canonical: str) -> None:

    assert canonical == format_query(parse(query))
