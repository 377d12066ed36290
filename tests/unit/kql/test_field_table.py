import json
from importlib.resources import files
from types import MappingProxyType

import pytest

from pipeline.errors import FieldTypesError, UnmappedFieldError
from pipeline.kql import FieldTable, Memo, compile_query
from pipeline.kql.nodes import Wildcard

TABLE = FieldTable.from_mapping(
    {
        "k": {
            "type": "keyword",
            "multi_fields": {
                "caseless": {"type": "keyword", "normalizer": "lowercase"},
                "text": "text",
            },
        },
        "n": "long",
        "x": "double",
        "b": "boolean",
        "ip": "ip",
        "t": "date",
        "w": "wildcard",
        "flat": "flattened",
        "o.k": "keyword",
        "nest": "nested",
        "nest.k": "keyword",
        "geo": "geo_point",
    }
)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("k", ["b", "a", "b", None, ["a", [1]], True], ("b", "a", "1", "true")),
        ("k", "", ("",)),
        ("k", ["x" * 1025, "y" * 1024], ("y" * 1024,)),
        ("k", [], ()),
        ("k", {"z": 1}, ()),
        ("k.caseless", ["PowerShell.EXE", "powershell.exe"], ("powershell.exe",)),
        ("w", "x" * 2000, ("x" * 2000,)),
        ("n", [1, "1", 1.0, 2.7, "x", True, 2**63], (1, 2)),
        ("x", [1, 1.0, 1.5, "1.5", True], (1, 1.5)),
        ("b", [True, "true", "false", 1], (True, False)),
        (
            "ip",
            ["10.0.0.1", "::ffff:10.0.0.1", "2001:DB8::0:1", "2001:db8::1%eth0", "x"],
            ("10.0.0.1", "2001:db8::1"),
        ),
        ("t", ["2024-01-01T00:00:00.1234Z", 1704067200123, "x"], (1704067200123,)),
        ("flat", {"a": "x", "b": ["y", "x"]}, ("x", "y")),
    ],
)
def test_terms_are_distinct_indexed_values(name: str, values: object, expected: tuple) -> None:
    terms = TABLE.terms(name)({name.partition(".")[0]: values})

    assert expected == terms
    assert [type(term) for term in expected] == [type(term) for term in terms]


def test_terms_are_found_however_the_event_is_written() -> None:
    read = TABLE.terms("o.k")

    assert read({"o": [{"k": "a"}, {"k": ["b", "a"]}], "o.k": "c"}) == ("a", "b", "c")
    assert read({}) == ()
    assert read(MappingProxyType({"o.k": "a"})) == ("a",)


def test_a_field_that_is_read_after_many_others_has_all_its_values() -> None:
    names = [f"o.f{number}.k" for number in range(9)]
    table = FieldTable.from_mapping(dict.fromkeys(names, "keyword"))
    event = {
        "o": [{f"f{number}": [{"k": ["a", None]}, {"k": str(number)}]} for number in range(8)],
        "o.f2.k": "b",
        "o.f8": {"k": {"no": "scalar"}},
    }
    memo = Memo()

    read = [table.terms(name)(event, memo) for name in names]

    several = [("a", str(number)) for number in range(8)]
    assert [*several[:2], ("a", "2", "b"), *several[3:], ()] == read


def test_raw_values_are_given_as_written() -> None:
    assert TABLE.values("n")({"n": ["x", 1, [None, 2.5]]}) == ("x", 1, 2.5)
    assert TABLE.values("n")({"n": 7}) == (7,)
    assert TABLE.values("k.caseless")({"k": "A"}) == ("A",)
    assert TABLE.values("flat.a.b")({"flat": {"a.b": 1}}) == (1,)


@pytest.mark.parametrize("name", ["nosuch", "k.text", "nest.k", "o", "nest", "geo", "n.m.o"])
def test_a_field_without_terms_is_refused(name: str) -> None:
    with pytest.raises(UnmappedFieldError):
        TABLE.terms(name)


def test_an_unknown_field_gets_a_suggestion() -> None:
    with pytest.raises(UnmappedFieldError, match="did you mean `process.executable`"):
        FieldTable.builtin().terms("proces.executable")


def test_multi_fields_and_objects_are_found_by_name() -> None:
    caseless = TABLE.get("k.caseless")

    assert caseless is not None
    assert (caseless.type, caseless.source, caseless.caseless) == ("keyword", "k", True)
    assert TABLE.get("o").type == "object"
    assert TABLE.get("nest.k").nested == "nest"
    assert TABLE.get("flat.any.path").keyed
    assert TABLE.get("nosuch") is None
    assert TABLE.get("k.nosuch") is None
    assert TABLE.get("") is None


def test_a_field_below_a_field_is_a_view_of_it() -> None:
    flat = {"name": "keyword", "name.lower": {"type": "keyword", "normalizer": "lowercase"}}

    assert compile_query("name.lower:a", flat)({"name": "A"})


def test_field_wildcards_expand_over_mapped_fields_with_values() -> None:
    assert ["k", "k.caseless", "k.text"] == [f.name for f in TABLE.expand(Wildcard(("k", "")))]
    assert ["nest.k"] == [f.name for f in TABLE.expand(Wildcard(("nest", "")))]


def test_extending_a_table_leaves_it_as_it_was() -> None:
    extended = TABLE.extend({"k": "long", "new.field": "ip"})

    assert extended.get("k").type == "long"
    assert extended.get("k.caseless") is None
    assert extended.get("new").type == "object"
    assert extended.get("n").type == "long"
    assert TABLE.get("k").type == "keyword"
    assert TABLE.get("new.field") is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("keywrod", "did you mean `keyword`"),
        ("zzz", "unknown type"),
        (7, "give a type"),
        (None, "give a type"),
        ({}, "give a type"),
        ({"type": ["keyword"]}, "give a type"),
        ({"type": "keyword", "normaliser": "lowercase"}, "unknown option `normaliser`"),
        ({"type": "keyword", "normalizer": "uppercase"}, "only the normalizer `lowercase`"),
        ({"type": "keyword", "normalizer": []}, "only the normalizer `lowercase`"),
        ({"type": "long", "normalizer": "lowercase"}, "only a keyword"),
        ({"type": "keyword", "ignore_above": 0}, "whole number"),
        ({"type": "keyword", "ignore_above": True}, "whole number"),
        ({"type": "keyword", "ignore_above": 3.5}, "whole number"),
        ({"type": "scaled_float", "scaling_factor": 0}, "a number above 0"),
        ({"type": "keyword", "multi_fields": ["text"]}, "must be a table"),
        ({"type": "keyword", "multi_fields": {"text": "txet"}}, "f.text"),
        ({"type": "object", "object_type": "nested"}, "object_type"),
        ({"type": "keyword", "object_type": "keyword"}, "object_type"),
        ({"type": "object", "object_type": {}}, "object_type"),
    ],
)
def test_an_impossible_entry_is_refused(entry: object, message: str) -> None:
    with pytest.raises(FieldTypesError, match=message):
        FieldTable.from_mapping({"f": entry})


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("process.executable.caseless", "keyword"),
        ("process.name.text", "text"),
        ("process.command_line", "wildcard"),
        ("process.command_line.text", "match_only_text"),
        ("dll.Ext.code_signature", "nested"),
        ("process.parent.pid", "long"),
        ("source.ip", "ip"),
        ("labels.anything", "keyword"),
        ("user.id", "keyword"),
        ("event.ingested", "date"),
    ],
)
def test_the_builtin_table_knows_the_fields_of_rules(name: str, kind: str) -> None:
    found = FieldTable.builtin().get(name)

    assert found is not None
    assert kind == found.type


def test_names_have_a_limited_number_of_segments() -> None:
    deep = ".".join(["flat"] + ["a"] * 63)

    assert TABLE.get(deep) is not None
    assert TABLE.get(deep + ".a") is None
    assert TABLE.get("flat" + ".a" * 100_000) is None
    with pytest.raises(FieldTypesError, match="levels"):
        FieldTable.from_mapping({".".join("a" * 65): "keyword"})


def test_the_builtin_table_is_loaded_once() -> None:
    assert FieldTable.builtin() is FieldTable.builtin()


def test_the_builtin_table_is_sorted_and_has_every_type_known() -> None:
    data = json.loads(files("pipeline.kql").joinpath("field_types.json").read_bytes())

    assert sorted(data) == list(data)
    assert len(list(FieldTable.builtin().names())) > len(data)


def test_elastic_defends_processes_and_those_above_them_have_caseless_fields() -> None:
    table = FieldTable.builtin()
    for process in ("process", "process.parent", "process.entry_leader", "process.session_leader"):
        for field in ("name", "executable", "command_line", "working_directory"):
            found = table.get(f"{process}.{field}.caseless")
            assert found is not None
            assert found.caseless


@pytest.mark.parametrize("name", ["", None, 7, ("a",)])
def test_a_field_has_a_name(name: object) -> None:
    with pytest.raises(FieldTypesError, match="no name of a field"):
        FieldTable.from_mapping({name: "keyword"})
