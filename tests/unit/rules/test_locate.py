from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rules.locate import Duplicate, TomlSource

TEXT = """\
# a comment with [brackets] and = signs
[metadata]
creation_date = "2024/01/01"

[rule]
name = "a # no comment"   # a comment
note = \"\"\"
[rule]
name = "not a key"
\"\"\"
query = '''
host.id:* and
  user.id:*
'''
tags = [
    "one",   # first
    "two, [three]",
]
'quoted key' = 1
"esc\\u0061ped" = 2
dotted.inner = 3
inline = { a = 1, b.c = [ { d = 2 } ] }

[[rule.threat]]
framework = "X"
  [rule.threat.tactic]
  id = "TA0001"
[[rule.threat.technique]]
id = "T1"
[[rule.threat.technique.subtechnique]]
id = "T1.1"
[[rule.threat]]
[rule.threat.tactic]
id = "TA0002"

[[tests]]
name = "t"
[[tests.events]]
"event.category" = "library"
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("metadata",), 2),
        (("rule",), 5),
        (("rule", "name"), 6),
        (("rule", "note"), 7),
        (("rule", "query"), 11),
        (("rule", "tags"), 15),
        (("rule", "tags", 0), 16),
        (("rule", "tags", 1), 17),
        (("rule", "quoted key"), 19),
        (("rule", "escaped"), 20),
        (("rule", "dotted"), 21),
        (("rule", "dotted", "inner"), 21),
        (("rule", "inline", "b", "c", 0, "d"), 22),
        (("rule", "threat", 0), 24),
        (("rule", "threat", 0, "tactic", "id"), 27),
        (("rule", "threat", 0, "technique", 0, "subtechnique", 0, "id"), 31),
        (("rule", "threat", 1, "tactic", "id"), 34),
        (("tests", 0, "events", 0, "event.category"), 39),
        (("rule", "no such key"), 5),
        (("nothing",), 1),
    ],
)
def test_a_key_has_its_line_and_an_unknown_one_that_of_its_table(place, line):
    tomllib.loads(TEXT)  # the text is TOML

    assert TomlSource(TEXT).line(place) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[rule]\n", 1),
        ("a = 1\n\n[rule]", 3),
        ('a = """\n[rule]\n"""\n[rule]\n', 4),
        ("[ rule ]\n", 1),
        ("\n[rule] # x\n", 2),
    ],
)
def test_a_table_header_has_its_line(text, line):
    assert TomlSource(text).header_line("rule") == line


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("[[tests]]\na = 1\n\n[[tests]]\n", (1, 4)),
        ("[[tests]]\n[[tests]]", (1, 2)),
        ("[[ tests ]] # x\n[['tests']]\n", (1, 2)),
        ('[["tests"]]\na = """\n[[tests]]\n"""\n', (1,)),
        ("tests = [\n  {},\n  {},\n]\n", (2, 3)),
    ],
)
def test_each_block_has_its_line(text, lines):
    blocks = tomllib.loads(text)["tests"]

    assert TomlSource(text).block_lines("tests", len(blocks)) == lines


def test_the_text_of_a_multi_line_string_begins_on_the_next_line():
    source = TomlSource(TEXT)

    assert source.value_line(("rule", "query")) == 12
    assert source.value_line(("rule", "name")) == 6
    assert TomlSource("q = '''a\nb'''").value_line(("q",)) == 1


@pytest.mark.parametrize(
    ("text", "duplicate"),
    [
        ("a = 1\nb = 2\na = 3\n", Duplicate("a", 1, 3)),
        ("[t]\na = '''\n1\n'''\na = '''\n2\n'''\n", Duplicate("t.a", 2, 5)),
        ("[t]\na = 1\n[u]\n[t]\n", Duplicate("t", 1, 4)),
        ("[t]\na = { b = 1, b = 2 }\n", Duplicate("t.a.b", 2, 2)),
        ("a = 1\na = 2\nb = 1\nb = 2\n", Duplicate("a", 1, 2)),
        ("[a.b]\n[a]\n", None),
        ("[[t]]\na = 1\n[[t]]\na = 1\n", None),
    ],
)
def test_a_key_or_table_written_twice_is_found(text, duplicate):
    assert TomlSource(text).duplicate() == duplicate


@given(st.text(alphabet="ab=.[]{}'\"\\#,\n \u00e9", max_size=60))
def test_no_text_makes_the_scan_raise(text):
    source = TomlSource(text)

    assert source.line(("a", "b")) >= 1
    source.duplicate()


@pytest.mark.parametrize("text", ['"\\q" = 1\nb = 1\n', "'''a''' = 1\nb = 1\n", "a = \nb = 1\n"])
def test_the_scan_ends_where_the_text_is_no_toml(text):
    assert TomlSource(text).line(("b",)) == 1


def test_deeply_nested_arrays_end_the_scan():
    assert TomlSource("a = " + "[" * 5_000).line(("b",)) == 1
