import pytest

from pipeline.kql import FieldTable, Literals, parse, required_literals


def _literals(query: str) -> Literals | None:
    return required_literals(parse(query), FieldTable.builtin())


def exact(*texts: str) -> Literals:
    return Literals(exact=frozenset(texts))


def caseless(*texts: str) -> Literals:
    return Literals(caseless=frozenset(texts))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("dll.name:amsi.dll", exact("amsi.dll")),
        ('dll.name:("amsi.dll" or "clr.dll")', exact("amsi.dll", "clr.dll")),
        # The best child of an `and`: the longest.
        ("host.os.type:windows and dll.name:amsi.dll", exact("amsi.dll")),
        ("process.pid:4 and dll.name:amsi.dll and not user.name:root", exact("amsi.dll")),
        # Every child of an `or`, or nothing.
        ("dll.name:amsi.dll or process.pid:4", None),
        ("dll.name:amsi.dll or not dll.name:ntdll.dll", None),
        # Only runs that every writer spells the same way.
        (r'dll.path:"C:\\Windows\\System32\\amsi.dll"', exact("System32")),
        ('dll.path:"/usr/lib/x<y>&z"', None),
        ('dll.name:"naïve é"', None),
        (r"dll.path:*\\Temp*\\evil*", exact("Temp")),
        ("process.command_line:*-enc* *download*", exact("-enc", "download")),
        ("process.command_line:*-enc* *x*", None),
        # A lower-case k or i may be a Kelvin sign or a dotted capital I in the raw text.
        ('process.name.caseless:"WScript.EXE"', caseless("pt.exe")),
        ('process.name.caseless:"powershell.exe"', caseless("powershell.exe")),
        ("process.name.caseless:*KERNEL*", caseless("ernel")),
        # Numbers have many spellings, short texts are everywhere.
        ("event.code:4688", None),
        ("event.code:1*00000.0*", None),
        ("dll.name:abc", None),
        ("process.code_signature.trusted:true", None),
        ("event.code:true", exact("true")),
        # Words of a text.
        ("message:endpoint event", caseless("endpo", "event")),
        ("message:quick dog", None),
        ('message:"quick event dog"', caseless("event")),
        ("message:*event*", None),
        ('message:"a b c"', None),
        # What gives nothing.
        ("dll.name:*", None),
        ("dll.name > amsi.dll", None),
        ("source.ip:10.0.0.0/8", None),
        ("nosuch.field:amsi.dll", None),
        ("process:amsi.dll", None),
        ("dll.n*:amsi.dll", None),
        ("amsi.dll", None),
        ("*:*", None),
        ("dll.Ext.code_signature:{ subject_name:Microsoft and trusted:true }", exact("Microsoft")),
        ("labels.env:production", exact("production")),
    ],
)
def test_required_literals(query: str, expected: Literals | None) -> None:
    assert expected == _literals(query)


def test_alternatives_are_all_texts() -> None:
    literals = _literals('dll.name:amsi.dll or process.name.caseless:"powershell.exe"')

    assert literals is not None
    assert literals.alternatives == {"amsi.dll", "powershell.exe"}


def test_a_text_that_most_events_hold_is_taken_only_when_there_is_no_other() -> None:
    table = FieldTable.builtin()
    both = parse("event.category:process and process.name:ab.exe")
    alone = parse("event.category:process and process.pid:5")

    assert required_literals(both, table) == exact("ab.exe")
    assert required_literals(alone, table) == exact("process")
