import pytest

from pipeline.kql import (
    Clause,
    FieldTable,
    Needle,
    compile_node,
    exact_clauses,
    parse,
    required_clauses,
)


def clauses(query: str) -> tuple[Clause, ...]:
    return required_clauses(parse(query), FieldTable.builtin())


def whole(*texts: str, caseless: bool = False) -> Clause:
    return frozenset(Needle(text, caseless, starts=True, ends=True) for text in texts)


def part(*texts: str, caseless: bool = False) -> Clause:
    return frozenset(Needle(text, caseless) for text in texts)


def begin(text: str, *, caseless: bool = False) -> Clause:
    return frozenset({Needle(text, caseless, starts=True)})


def end(text: str, *, caseless: bool = False) -> Clause:
    return frozenset({Needle(text, caseless, ends=True)})


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("dll.name:amsi.dll", [whole("amsi.dll")]),
        ('dll.name:("amsi.dll" or "clr.dll")', [whole("amsi.dll", "clr.dll")]),
        # All of an `and`, the most telling first: what most events hold tells least.
        (
            "host.os.type:windows and dll.name:amsi.dll",
            [whole("amsi.dll"), whole("windows")],
        ),
        (
            "process.pid:4 and dll.name:amsi.dll and not user.name:root",
            [whole("amsi.dll")],
        ),
        # Every alternative of an `or`, or nothing.
        ("dll.name:amsi.dll or process.pid:4", []),
        ("dll.name:amsi.dll or not dll.name:ntdll.dll", []),
        (
            "(dll.name:one.dll and user.name:ann) or dll.name:three.dll",
            [whole("one.dll", "three.dll"), whole("ann", "three.dll")],
        ),
        # Only runs that every writer spells the same way, escapes of any character set aside.
        (r'dll.path:"C:\\Windows\\amsi.dll"', [whole(r"C:\Windows\amsi.dll")]),
        ('dll.path:"/usr/lib/x<y>&z"', [end("x<y>&z")]),
        ('dll.path:"/usr/library/x"', [part("library")]),
        ('dll.name:"naïve é"', []),
        ('dll.name:"naïve cave é"', [part("ve cave ")]),
        # A pattern: each text between its stars.
        (r"dll.path:*\\Temp*\\evil*", [part("\\Temp"), part("\\evil")]),
        (r"dll.path:C\:\\Users\\*.exe", [begin("C:\\Users\\"), end(".exe")]),
        ("dll.path:é-amsi*evil-é", [part("-amsi"), part("evil-")]),
        ("dll.path:ab*", []),
        ("process.command_line:*-enc* *download*", [part("-enc", "download")]),
        ("process.command_line:*-enc* *x*", []),
        # In any case; a k or an i may be a Kelvin sign or a dotted capital I in the event.
        ('process.name.caseless:"WScript.EXE"', [whole("wscript.exe", caseless=True)]),
        ("process.name.caseless:*KERNEL*", [part("kernel", caseless=True)]),
        # Numbers have many spellings, but for whole ones; booleans have no quotes.
        ("event.code:4688", [part("4688")]),
        ("event.code:04688", []),
        ("event.code:4688.5", []),
        ("event.code:1*00000.0*", []),
        ('event.code:"10.0.0.1"', [whole("10.0.0.1")]),
        ("process.code_signature.trusted:true", []),
        ("event.code:true", [part("true")]),
        ("event.code:True", [whole("True")]),
        ("event.code:true*", [part("true")]),
        ("event.code:*rue", []),
        ("event.code:*false", [part("false")]),
        # Short texts are everywhere.
        ("dll.name:ab", [whole("ab")]),
        ("dll.name:a", []),
        ("dll.name:*abc*", []),
        # Words of a text.
        ("message:endpoint event", [part("endpoint", "event", caseless=True)]),
        ("message:quick dog", []),
        (
            'message:"quick event dog"',
            [part("quick", caseless=True), part("event", caseless=True)],
        ),
        ("message:*event*", []),
        ('message:"a b c"', []),
        # A number of an event is indexed as a text too, however JSON spells it.
        ("message:12345.0", []),
        ('message:"code 12345"', [part("code", caseless=True)]),
        # What gives nothing.
        ("dll.name:*", []),
        ("dll.name > amsi.dll", []),
        ("source.ip:10.0.0.0/8", []),
        ("nosuch.field:amsi.dll", []),
        ("process:amsi.dll", []),
        ("dll.n*:amsi.dll", []),
        ("amsi.dll", []),
        ("*:*", []),
        (
            "dll.Ext.code_signature:{ subject_name:Microsoft and trusted:true }",
            [whole("Microsoft")],
        ),
        ("labels.env:production", [whole("production")]),
    ],
)
def test_required_clauses(query: str, expected: list[Clause]) -> None:
    assert expected == list(clauses(query))


def test_of_a_very_long_text_the_beginning_is_a_needle() -> None:
    assert (begin("x" * 256),) == clauses(f"process.command_line:{'x' * 20_000}")


def test_a_query_gives_a_few_clauses_however_long_it_is() -> None:
    values = [f"(dll.name:name-{n}.dll and dll.path:path-{n})" for n in range(50)]

    found = clauses(" or ".join(values))

    assert 8 == len(found)
    assert all(50 == len(clause) for clause in found)
    assert 8 == len(clauses(" and ".join(values)))


def test_a_nested_query_in_a_nested_one_requires_what_its_innermost_fields_do() -> None:
    table = FieldTable.builtin().extend(
        {"nest": "nested", "nest.deep": "nested", "nest.deep.k": "keyword", "deep.k": "long"}
    )
    node = parse("nest:{ deep:{ k:evil.dll and not k:x } }")

    assert required_clauses(node, table) == (whole("evil.dll"),)
    assert exact_clauses(node, table) == ()
    matches = compile_node(node, table)
    assert matches({"nest": [{"deep": [{"k": "x"}, {"k": "evil.dll"}]}]})
    assert not matches({"nest": [{"deep": {"k": "x"}}], "deep": {"k": "evil.dll"}})
