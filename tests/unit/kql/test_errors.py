import pytest

from pipeline.errors import QueryError, QueryLimitError, QuerySyntaxError, QueryTypeError
from pipeline.kql import FieldTable, compile_node, compile_query, format_query, parse
from pipeline.kql.limits import MAX_CLAUSES, MAX_DEPTH
from pipeline.kql.nodes import And, Boolean, Is, Not, Null, Or, Text, Wildcard, literal_text


def _error(text: str, **options) -> QueryError:
    with pytest.raises(QueryError) as caught:
        compile_query(text, **options)
    return caught.value


def test_an_error_shows_the_line_and_a_caret_under_the_place() -> None:
    error = _error("user.name:a and\n\tprocess.pid:(1 or\tabc)")

    assert str(error) == (
        "`abc` is not a number (`process.pid` is of type long) (line 2, column 20)\n"
        "    \tprocess.pid:(1 or\tabc)\n"
        "    \t                 \t^^^"
    )


def test_an_error_in_a_long_line_shows_a_part_of_it() -> None:
    error = _error("user.name:(" + "a or " * 5_000 + ")" + " or user.name:b" * 100)

    assert isinstance(error, QuerySyntaxError)
    assert len(str(error)) < 500
    assert str(error).count("^") == 1


@pytest.mark.parametrize("text", ["", "a", "a:b", "a:b\n", "\n\na:("])
def test_the_place_of_an_error_may_be_the_end_of_the_text(text: str) -> None:
    error = _error(text + ' and f:"')

    assert error.line == text.count("\n") + 1
    assert "^" in str(error)


def test_every_field_of_a_list_is_refused_at_its_own_value() -> None:
    error = _error("process.pid:(1 or 2 or x or 3)")

    assert error.span.start == len("process.pid:(1 or 2 or ")


@pytest.mark.parametrize("opening", ["(", "not (", "n:{", "a or ("])
@pytest.mark.parametrize("start", ["", "f:("])
def test_a_query_may_not_nest_too_deep(start: str, opening: str) -> None:
    if start and ":" in opening:
        opening = "("  # a value list holds no nested block
    error = _error(start + opening * (MAX_DEPTH + 1) + "a")

    assert isinstance(error, QueryLimitError)


def test_nesting_up_to_the_limit_is_fine() -> None:
    text = "(" * MAX_DEPTH + "process.name:a" + ")" * MAX_DEPTH

    assert compile_query(text)({"process": {"name": "a"}})


def test_depth_is_counted_in_nodes_as_well() -> None:
    # 50 pairs of brackets, each with an `and` and a `not`: 100 levels of nodes and one more.
    text = "a and not (" * 50 + "b" + ")" * 50

    assert isinstance(_error(text), QueryLimitError)


def test_a_tree_made_by_hand_is_held_to_the_same_depth() -> None:
    node = Is("f", Text("x"))
    for _ in range(10_000):
        node = Not(node)

    with pytest.raises(QueryLimitError):
        compile_node(node, FieldTable.builtin())
    with pytest.raises(QueryLimitError):
        format_query(node)


def test_a_query_may_not_have_too_many_clauses() -> None:
    text = " or ".join(f"process.name:{i}" for i in range(MAX_CLAUSES))

    assert compile_query(text)({"process": {"name": "19999"}})
    assert isinstance(_error(text + " or process.name:a"), QueryLimitError)


def test_expanded_field_names_count_as_clauses() -> None:
    error = _error(" or ".join(["*:*a*"] * 100), fields={f"f{i}": "keyword" for i in range(1_000)})

    assert isinstance(error, QueryLimitError)
    assert "field-name wildcards" in (error.hint or "")


def test_a_node_made_by_hand_shows_the_clause_in_question() -> None:
    node = And((Is("process.pid", Text("abc")), Is("process.name", Text("x"))))

    with pytest.raises(QueryTypeError) as caught:
        compile_node(node, FieldTable.builtin())

    assert caught.value.text == "process.pid:abc"


def test_a_wildcard_has_at_least_one_star() -> None:
    with pytest.raises(ValueError, match="at least one star"):
        Wildcard(("a",))


@pytest.mark.parametrize("kind", [And, Or])
def test_and_and_or_join_at_least_two(kind) -> None:
    with pytest.raises(ValueError, match="at least two"):
        kind((Is("f", Text("a")),))


def test_a_node_knows_its_place_in_the_text() -> None:
    text = 'a:b  and not c : "d e"'
    node = parse(text)
    (first, second) = node.children

    assert text[first.span.start : first.span.end].strip() == "a:b"
    assert text[second.child.span.start : second.child.span.end] == 'c : "d e"'
    assert text[second.child.value.span.start : second.child.value.span.end] == '"d e"'


def test_a_misspelled_nested_path_gets_a_suggestion() -> None:
    assert _error("dl.Ext.code_signature:{ trusted:true }").hint == (
        "did you mean `dll.Ext.code_signature`?"
    )


def test_every_literal_has_a_text() -> None:
    assert [literal_text(value) for value in [Null(), Boolean(False), Wildcard(("a", "b"))]] == [
        "null",
        "false",
        "a*b",
    ]
