"""Rules and records that cost most together, within what both are allowed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import islice, permutations
from typing import Any, NamedTuple

from pipeline.engine.decode import DecodeLimits
from pipeline.kql import FieldTable
from pipeline.kql.limits import MAX_PATTERNS
from pipeline.rules import NewTerms
from pipeline.rules.model import Rule, RuleType
from tests.events import ENGINE, encode, library_event
from tests.mutations import _set
from tests.rules import new_terms_rule

LIMITS = DecodeLimits()
SIZE = LIMITS.max_bytes - 4_000
VALUES = LIMITS.max_values - 200
CLAUSES = 9_000
"""Clauses of a large rule; each is asked for itself where others stand beside it."""
FREE_TEXTS = 1_000
MANY_RULES = 240

_LINE = "process.command_line"
_ALSO = "host.os.type:windows"


class Case(NamedTuple):
    """Rules, and the value of a record that they judge."""

    name: str
    rules: Sequence[Rule]
    value: bytes


def rule(query: str, **changes: Any) -> Rule:
    terms = NewTerms(("user.id",), 604_800_000, "now-7d")
    return new_terms_rule(**({"query": query, "new_terms": terms} | changes))


def event_with(fields: dict[str, Any]) -> bytes:
    event = library_event(number=1)
    for path, value in fields.items():
        event = _set(event, path, value)
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def one(name: str, query: str, fields: dict[str, Any]) -> Case:
    return Case(name, [rule(query)], event_with(fields))


def many(name: str, queries: Iterable[str], fields: dict[str, Any], **changes: Any) -> Case:
    rules = [rule(query, rule_id=f"r{n}", **changes) for n, query in enumerate(queries)]
    return Case(name, rules, event_with(fields))


def alternatives(clauses: Iterable[str]) -> str:
    return " or ".join(clauses)


def apart(clauses: Iterable[str]) -> str:
    """Alternatives that are more than a list for one field: each is a test of its own, which is asked."""
    return alternatives(f"({clause} and {_ALSO})" for clause in clauses)


def cases() -> Iterator[Case]:
    yield from patterns()
    yield from texts()
    yield from ordered()
    yield from walks()
    yield from nested()
    yield from filters()
    yield from documents()
    yield from terms()
    yield from all_at_once()


def patterns() -> Iterator[Case]:
    many_stars = "*".join(["a"] * 2_000)
    searched = " or ".join(f"*{n:03}-never-there*" for n in range(MAX_PATTERNS))
    yield one("stars, one value of 1 MiB", f"{_LINE}:*a*a*a*a*b", {_LINE: "a" * SIZE})
    yield one("2,000 stars, one value of 1 MiB", f"{_LINE}:*{many_stars}*b", {_LINE: "a" * SIZE})
    yield one("stars, most values", f"{_LINE}:*a*a*a*a*b", {_LINE: ["a" * 90] * VALUES})
    yield one("2,000 stars, most values", f"{_LINE}:*{many_stars}*b", {_LINE: ["a" * 90] * VALUES})
    yield one(
        "most patterns, one value of 1 MiB", f"{_LINE}:({searched})", {_LINE: "a-0" * (SIZE // 3)}
    )
    yield one(
        "most patterns, most values", f"{_LINE}:({searched})", {_LINE: ["001-never-ther"] * VALUES}
    )
    yield one(
        "most patterns without case, most values",
        f"process.name.caseless:({searched})",
        {"process.name": ["001-NEVER-THER\u0130"] * VALUES},
    )
    yield one(
        "patterns without case, one value of 1 MiB",
        "process.name.caseless:(*x* or *y* or *z*)",
        {"process.name": "\u0130" * (SIZE // 2)},
    )
    yield one(
        "patterns apart, one value of 1 MiB",
        apart(f"{_LINE}:*{n:03}-never-there*" for n in range(MAX_PATTERNS)),
        {_LINE: "a-0" * (SIZE // 3)},
    )
    yield one(
        "patterns apart, most values",
        apart(f"{_LINE}:*{n:03}-never-there*" for n in range(MAX_PATTERNS)),
        {_LINE: [f"{n:05} value of the line" for n in range(VALUES)]},
    )
    orders = ["*".join(order) for order in islice(permutations("abcdefg"), MAX_PATTERNS)]
    filler = "".join(reversed("abcdefg"))
    yield one(
        "patterns of short parts in other orders, most values",
        f"{_LINE}:({alternatives(f'*{order}*' for order in orders)})",
        {_LINE: [f"{filler}{n:05}" for n in range(VALUES)]},
    )
    yield one(
        "patterns of short parts in other orders, one value of 1 MiB",
        f"{_LINE}:({alternatives(f'*{order}*' for order in orders)})",
        {_LINE: "g" * (SIZE // 2) + "fedcba" + "a" * (SIZE // 2 - 8)},
    )
    words = [f"part-{letter}" for letter in "abcdefg"]
    long_orders = ["*".join(order) for order in islice(permutations(words), MAX_PATTERNS)]
    yield one(
        "patterns of long parts in other orders, most values",
        f"{_LINE}:({alternatives(f'*{order}*' for order in long_orders)})",
        {_LINE: [f"{' '.join(reversed(words))}{n:05}" for n in range(VALUES)]},
    )
    yield one(
        "patterns of one part more each, most values",
        f"{_LINE}:({alternatives('*' + 'a' * n + '*x*' for n in range(1, MAX_PATTERNS))})",
        {_LINE: ["x" + "a" * 1_000] * 1 + [f"x{n}" + "a" * 1_000 for n in range(990)]},
    )
    yield one(
        "patterns that stand nearly everywhere, one value of 1 MiB",
        f"{_LINE}:({alternatives('*' + 'a' * 20 + f'{n}*' for n in range(MAX_PATTERNS))})",
        {_LINE: "a" * SIZE},
    )
    yield one(
        "patterns of two characters, one value of 1 MiB",
        f"{_LINE}:({alternatives(f'*{chr(c)}{chr(d)}*' for c in range(0x4E00, 0x4E20) for d in range(0x5E00, 0x5E20) if c != 0x4E00 or d > 0x5E18)})",
        {_LINE: "\u4e00a" * (SIZE // 4)},
    )
    yield one(
        "patterns on words, one text of 1 MiB",
        f"message:({searched})",
        {"message": " ".join(f"w{n:x}" for n in range(SIZE // 8))},
    )
    yield one(
        "patterns of short parts on words, one text of 1 MiB",
        f"message:({alternatives(f'*{order}*' for order in orders)})",
        {"message": " ".join(f"gfedcba{n:x}" for n in range(SIZE // 14))},
    )
    fields = [
        f"{what}.{name}"
        for what in ("process", "dll", "file")
        for name in (
            "name",
            "path",
            "executable",
            "hash.md5",
            "hash.sha1",
            "hash.sha256",
            "pe.imphash",
            "pe.product",
            "pe.company",
        )
    ]
    fields = [f for f in fields if f not in ("process.path", "dll.executable", "file.executable")]
    per_field = alternatives(
        f"{f}:({alternatives(f'*a*{n}x*' for n in range(600))})" for f in fields
    )
    yield one(
        "patterns on many fields, each of a kilobyte",
        per_field,
        dict.fromkeys(fields, "a" * 900 + "x0123456789"),
    )


def texts() -> Iterator[Case]:
    text = "a b c " * (SIZE // 6)
    distinct = " ".join(f"{n:x}" for n in range(SIZE // 6))
    yield one(
        "1,000 words, a text of 1 MiB",
        f"message:({alternatives(f'w{n}' for n in range(1_000))})",
        {"message": text},
    )
    yield one(
        "1,000 words, most texts",
        f"message:({alternatives(f'w{n}' for n in range(1_000))})",
        {"message": ["some words"] * VALUES},
    )
    yield one(
        "words apart, a text of 1 MiB",
        apart(f"message:w{n}" for n in range(CLAUSES)),
        {"message": distinct},
    )
    yield one(
        "words apart, a text of 1 KiB",
        apart(f"message:w{n}" for n in range(CLAUSES)),
        {"message": "a b " * 255},
    )
    yield one("a phrase, a text of 1 MiB", 'message:"a b c d"', {"message": text})
    yield one(
        "1,000 phrases, a text of 1 MiB",
        f"message:({alternatives(f'{chr(34)}a b c a b c {n}{chr(34)}' for n in range(1_000))})",
        {"message": text},
    )
    yield one(
        "phrases apart, a text of 1 MiB",
        apart(f'message:"a b c a b c {n}"' for n in range(CLAUSES)),
        {"message": text},
    )
    yield one(
        "phrases apart, most texts",
        apart(f'message:"a b c a b c {n}"' for n in range(CLAUSES)),
        {"message": [f"a b c a b c x{n}" for n in range(VALUES)]},
    )
    yield one(
        "ranges of words, a text of 1 MiB",
        apart(f'message >= "zz{n}"' for n in range(CLAUSES)),
        {"message": distinct},
    )
    yield one(
        "texts of letters outside ASCII, 1 MiB",
        "message:(w1 or w2) and message:*x*",
        {"message": "\u4e00" * (SIZE // 3)},
    )
    yield one(
        "texts of sigmas, 1 MiB", "message:(w1 or w2)", {"message": "\u03a3 \u0130" * (SIZE // 5)}
    )


def ordered() -> Iterator[Case]:
    pids = {"process.pid": list(range(VALUES))}
    yield one(
        "1,000 ranges, most values",
        alternatives(f"process.pid > {10**9 + n}" for n in range(1_000)),
        pids,
    )
    yield one(
        "ranges apart, most values",
        apart(f"process.pid > {10**9 + n}" for n in range(CLAUSES)),
        pids,
    )
    yield one(
        "numbers apart, most values",
        apart(f"process.pid:{10**9 + n}" for n in range(CLAUSES)),
        pids,
    )
    yield one(
        "numbers, most values",
        alternatives(f"process.pid:{10**9 + n}" for n in range(CLAUSES)),
        {"process.pid": [f"{n}.5e1" for n in range(VALUES)]},
    )
    yield one(
        "numbers of a hundred digits, most values",
        "process.pid > 5",
        {"process.pid": ["9" * 95 + "e99"] * VALUES},
    )
    yield one("whole numbers of many digits", "process.pid > 5", {"process.pid": int("9" * 4_000)})
    networks = [f'"10.{n >> 8}.{n & 255}.0/24"' for n in range(1_000)]
    v4, v6 = ["192.168.1.1"] * VALUES, [f"2001:db8:1:2:3:4:5:{n:x}" for n in range(VALUES)]
    yield one("1,000 networks, most values", f"host.ip:({alternatives(networks)})", {"host.ip": v4})
    yield one(
        "networks apart, most addresses",
        apart(f'host.ip:"10.{n >> 8}.{n & 255}.0/24"' for n in range(CLAUSES)),
        {"host.ip": v6},
    )
    yield one(
        "addresses apart, most addresses",
        apart(f'host.ip:"10.{n >> 8}.{n & 255}.1"' for n in range(CLAUSES)),
        {"host.ip": v6},
    )
    yield one(
        "one network, most long addresses",
        'host.ip:"10.0.0.0/8"',
        {
            "host.ip": [
                f"2001:0db8:0001:0002:0003:{n:04x}:255.255.255.255"[:45] for n in range(VALUES)
            ]
        },
    )
    dates = {"event.created": [f"2026-03-02T08:{n % 60:02}:00.{n:06}+01:00" for n in range(VALUES)]}
    yield one(
        "dates, most values",
        " and ".join(f'event.created >= "2026-01-{n:02}"' for n in range(1, 29)),
        dates,
    )
    yield one(
        "dates apart, most values",
        apart(f'event.created:"2027-01-01T00:00:00.{n:03}Z"' for n in range(1_000)),
        dates,
    )
    yield one(
        "ranges of keywords, most values",
        apart(f'{_LINE} > "zz{n}"' for n in range(CLAUSES)),
        {_LINE: [f"value {n}" for n in range(VALUES)]},
    )
    yield one(
        "keywords apart, most values",
        apart(f'{_LINE}:"zz{n}"' for n in range(CLAUSES)),
        {_LINE: [f"value {n}" for n in range(VALUES)]},
    )


def _keywords(prefix: str) -> Iterator[str]:
    table = FieldTable.builtin()
    for name in table.names():
        found = table.get(name)
        if name.startswith(prefix) and found and found.type == "keyword" and not found.nested:
            yield name


def walks() -> Iterator[Case]:
    wide = {f"a{n}": "value" for n in range(VALUES)}
    dotted = {"process.args": [f"value {n}" for n in range(VALUES)]}
    yield one("free text", "never-there", wide)
    yield one("free text, a pattern", "*never-there*", {f"a{n}": "v" * 60 for n in range(VALUES)})
    yield one(
        "free text, many words", alternatives(f"never-there-{n}" for n in range(FREE_TEXTS)), dotted
    )
    yield one(
        "free text, words apart", apart(f"never-there-{n}" for n in range(FREE_TEXTS)), dotted
    )
    yield one(
        "free text, many patterns",
        alternatives(f"*never{n}-there*" for n in range(MAX_PATTERNS)),
        dotted,
    )
    yield one(
        "free text, a text of 1 MiB",
        alternatives(f"never-there-{n}" for n in range(FREE_TEXTS)),
        {"message": "a b " * (SIZE // 4)},
    )
    yield one(
        "objects that have no values",
        apart(
            f"{name}:*"
            for name in ("process.Ext", "dll.pe", "threat", "file.Ext", "user.target") * 400
        ),
        {
            "process": {f"u{n}": {} for n in range(4_000)},
            "threat": {f"u{n}": [] for n in range(4_000)},
        },
    )
    yield one(
        "objects, many clauses",
        apart(["process.parent:*"] * CLAUSES),
        {"process.parent": {f"u{n}": "x" for n in range(VALUES)}},
    )
    deep: dict[str, Any] = reduce(
        lambda inner, n: {"process": [inner], f"x{n}": ["y"] * 100}, range(60), {"name": "x"}
    )
    yield one(
        "deep objects in arrays",
        "process.process.process:never or process.parent.name:never or never",
        deep,
    )
    keys = {f"process.parent.{n}" + "x" * 80: "y" for n in range(VALUES)}
    yield Case(
        "dotted keys",
        [rule(apart(f"process.parent.name:x{n}" for n in range(CLAUSES)))],
        encode(library_event() | keys),
    )
    spread = [{"parent": {"name": [f"v{n}"]}} for n in range(VALUES // 4)]
    yield one(
        "a field spread over objects, asked apart",
        apart(f"process.parent.name:x{n}" for n in range(CLAUSES)),
        {"process": spread},
    )
    yield one(
        "a field spread over empty objects, asked apart",
        apart(f"process.parent.name:x{n}" for n in range(CLAUSES)),
        {"process": [{} for n in range(VALUES)]},
    )
    names = list(_keywords("process."))
    yield one(
        "all fields of an object, spread over objects",
        apart(f"{name}:x" for name in names),
        {"process": [{"parent": [{"a": 1}]} for n in range(VALUES // 3)]},
    )
    long_keys: dict[str, Any] = {f"k{n}": "v" for n in range(9_000)}
    for _ in range(55):
        long_keys = {"k" * 15_000: long_keys}
    yield one("long keys at many levels, free text", "never-there", {"labels": long_keys})
    yield one(
        "long keys at many levels",
        "process.args:x and labels.k.k.k:* or process.name:x or labels.a:b",
        {"labels": [long_keys], "process.args": [{}]},
    )
    flat = {f"k{n}": [f"v{n}"] for n in range(VALUES // 2)}
    yield one(
        "a flattened field, asked apart",
        apart(f"file.elf.exports:x{n}" for n in range(CLAUSES)),
        {"file.elf.exports": flat},
    )
    yield one(
        "a flattened field, many keys",
        apart(f"file.elf.exports.k{n}:x" for n in range(CLAUSES)),
        {"file.elf.exports": flat},
    )
    yield one(
        "a geo field",
        apart(["host.geo.location:*"] * 100),
        {"host.geo.location": {f"k{n}": None for n in range(VALUES)}},
    )


def nested() -> Iterator[Case]:
    objects = [{"trusted": False, "subject_name": f"name {n}"} for n in range(VALUES // 3)]
    event = {"dll.Ext.code_signature": objects}
    path = "dll.Ext.code_signature"
    yield one(
        "a nested block, many objects", f"{path}:{{ trusted:true and subject_name:x }}", event
    )
    yield one(
        "nested blocks, many objects",
        alternatives(f"{path}:{{ trusted:true and subject_name:x{n} }}" for n in range(3_000)),
        event,
    )
    yield one(
        "a nested block of many clauses, many objects",
        f"{path}:{{ {alternatives(f'(subject_name:x{n} and trusted:true)' for n in range(5_000))} }}",
        event,
    )
    yield one(
        "a nested block of patterns, many objects",
        f"{path}:{{ subject_name:({alternatives(f'*x{n}*' for n in range(1_000))}) }}",
        event,
    )
    yield one(
        "a nested block, empty objects",
        f"{path}:{{ {alternatives(f'(subject_name:x{n} and trusted:true)' for n in range(500))} }}",
        {path: [{}] * VALUES},
    )
    yield many(
        "240 rules with nested blocks",
        [f"{path}:{{ trusted:true and subject_name:x{n} }}" for n in range(MANY_RULES)],
        event,
    )


def filters() -> Iterator[Case]:
    def filtered(name: str, clauses: list[dict[str, Any]], fields: dict[str, Any]) -> Case:
        found = ({"meta": {}, "query": {"bool": {"should": clauses}}},)
        return Case(name, [rule(f'dll.name:"{ENGINE}"', filters=found)], event_with(fields))

    yield filtered(
        "filter: wildcards with question marks, a value of 1 MiB",
        [{"wildcard": {_LINE: "*" + "a" * 60 + "?" * 30 + f"{n}*"}} for n in range(MAX_PATTERNS)],
        {_LINE: "a" * SIZE},
    )
    yield filtered(
        "filter: wildcards, most values",
        [{"wildcard": {_LINE: f"*a?{n}*"}} for n in range(MAX_PATTERNS)],
        {_LINE: ["a" * 90] * VALUES},
    )
    yield filtered(
        "filter: one wildcard with question marks, a value of 1 MiB",
        [{"wildcard": {_LINE: "*" + "a" * 60 + "?" * 38 + "b*"}}],
        {_LINE: "a" * SIZE},
    )
    yield filtered(
        "filter: ranges, most values",
        [{"range": {"process.pid": {"gte": 10**9 + n}}} for n in range(CLAUSES)],
        {"process.pid": list(range(VALUES))},
    )
    yield filtered(
        "filter: terms without case, most values",
        [{"term": {_LINE: {"value": f"x{n}", "case_insensitive": True}}} for n in range(CLAUSES)],
        {_LINE: [f"value {n}" for n in range(VALUES)]},
    )
    yield filtered(
        "filter: phrases, a text of 1 MiB",
        [{"match_phrase": {"message": f"a b c {n}"}} for n in range(CLAUSES)],
        {"message": "a b c " * (SIZE // 6)},
    )


_QUICK = f'dll.name:"{ENGINE}"'


def documents() -> Iterator[Case]:
    """What costs before any rule is asked."""
    rules = [rule("not user.id:x")]
    event = encode(library_event())
    yield Case("brackets only", rules, b"[" * LIMITS.max_bytes)
    yield Case("brackets in pairs", rules, b"[[]" + b",[]" * (SIZE // 3) + b"]")
    yield Case("brackets in pairs, in an object", rules, b'{"a":[[]' + b",[]" * (SIZE // 3) + b"]}")
    yield Case("empty objects", rules, b"[{}" + b",{}" * (SIZE // 3) + b"]")
    yield Case("empty objects by line", rules, b"{}\n" * (SIZE // 3))
    yield Case("bad lines", rules, event + b"\n" + b"{\n" * (SIZE // 2))
    yield Case("bad lines, then a good one", rules, b"{\n" * (SIZE // 2) + event)
    yield Case("quotes", rules, b'"' * SIZE)
    yield Case("backslashes", rules, b'{"a":"' + b"\\" * SIZE)
    yield Case("surrogates", rules, b'{"a":"' + b"\\ud800" * (SIZE // 6) + b'"}')
    yield Case(
        "a surrogate in a wide event",
        rules,
        b'{"a":"\\ud800"' + b"".join(b',"%d":%d' % (n, n) for n in range(70_000)) + b"}",
    )
    yield Case(
        "a surrogate and many texts", rules, b'{"a":["\\ud800"' + b',""' * (SIZE // 3) + b"]}"
    )
    yield Case(
        "a surrogate and many numbers", rules, b'{"a":["\\ud800"' + b",1" * (SIZE // 2) + b"]}"
    )
    yield Case(
        "a surrogate and long numbers",
        rules,
        b'{"a":["\\ud800"' + (b"," + b"9" * 300) * (SIZE // 301) + b"]}",
    )
    yield Case("a surrogate and one long number", rules, b'{"a":["\\ud800",' + b"9" * SIZE + b"]}")
    yield Case("a number of a million digits", rules, b'{"a":' + b"1" * SIZE + b"}")
    yield Case("a fraction of a million digits", rules, b'{"a":1.' + b"1" * SIZE + b"}")
    yield Case(
        "a surrogate and a fraction of a million digits",
        rules,
        b'{"a":["\\ud800",1.' + b"1" * SIZE + b"]}",
    )
    yield Case("keys given twice", rules, b'{"a":0' + b',"a":1' * (SIZE // 6) + b"}")
    yield Case("keys given twice, spaces", rules, b'{"a" :0' + b',"a" :1' * (SIZE // 7) + b"}")
    yield Case("spaces before colons", rules, b'{"a"' + b" " * SIZE + b":0}")
    yield Case("quotes and spaces", rules, b'{"a":"' + b'\\"   ' * (SIZE // 5) + b'"}')
    yield Case(
        "quotes and spaces in keys",
        rules,
        b'{"a":["' + b'\\"' + b" " * 500_000 + b'\\"' + b" " * 500_000 + b'"]}',
    )
    yield Case(
        "long keys", rules, encode({f"{n}" + "k" * 5_000: 1 for n in range(200)} | library_event())
    )
    yield Case(
        "too many values",
        rules,
        b"{" + b",".join(b'"%d":%d' % (n, n) for n in range(80_000)) + b"}",
    )
    yield Case("a wide event", rules, encode(library_event() | {f"k{n}": n for n in range(VALUES)}))
    yield Case("an event in each line", rules, b"\n".join([event] * (SIZE // (len(event) + 1))))
    yield Case(
        "an event in each line, built-in query",
        [rule(_QUICK)],
        b"\n".join([event] * (SIZE // (len(event) + 1))),
    )
    small = b'{"dll.name":"x","user.id":"%d","@timestamp":"2026-03-02T08:00:00Z"}'
    yield Case(
        "small events by line, all match",
        [rule("dll.name:x")],
        b"\n".join(small % n for n in range(12_000)),
    )
    yield Case(
        "small events in an array, all match",
        [rule("dll.name:x")],
        b"[" + b",".join(small % n for n in range(12_000)) + b"]",
    )
    yield Case(
        "small events by line, query rule",
        [rule("dll.name:x", type=RuleType.QUERY, new_terms=None)],
        b"\n".join(small % n for n in range(12_000)),
    )
    yield Case(
        "small events by line, 240 rules",
        [rule("dll.name:x", rule_id=f"r{n}") for n in range(MANY_RULES)],
        b"\n".join(small % n for n in range(12_000)),
    )
    yield Case(
        "escapes only",
        [rule(_QUICK)],
        b'{"a":"' + b"\\u0041" * (SIZE // 6) + b'","dll":{"name":"' + ENGINE.encode() + b'"}}',
    )
    yield Case(
        "needles only", [rule(_QUICK)], b'{"a":"' + ENGINE.encode() * (SIZE // len(ENGINE)) + b'"}'
    )


def terms() -> Iterator[Case]:
    values = [f"value-{n}" for n in range(VALUES)]
    three = NewTerms(("host.ip", "process.executable", "user.id"), 604_800_000, "now-7d")
    single = NewTerms(("process.args",), 604_800_000, "now-7d")
    addresses = NewTerms(("host.ip",), 604_800_000, "now-7d")
    v6 = [f"2001:db8:1:2:3:4:5:{n:x}" for n in range(VALUES)]
    yield Case(
        "10,000 tuples of one field",
        [rule(_QUICK, new_terms=single)],
        event_with({"process.args": values}),
    )
    yield Case(
        "10,000 tuples of one field, long terms",
        [rule(_QUICK, new_terms=single)],
        event_with({"process.args": [f"{n}" + "x" * 95 for n in range(VALUES)]}),
    )
    yield Case(
        "10,000 tuples of three fields",
        [rule(_QUICK, new_terms=three)],
        event_with(
            {"host.ip": v6[:3_000], "process.executable": values[:3_000], "user.id": values[:3_000]}
        ),
    )
    yield Case(
        "10,000 tuples of three fields, small event",
        [rule(_QUICK, new_terms=three)],
        event_with({"host.ip": v6[:22], "process.executable": values[:22], "user.id": values[:22]}),
    )
    yield Case(
        "64 tuples of an event of 1 MiB",
        [rule(_QUICK, new_terms=single)],
        event_with({"process.args": values[:100], "message": "m" * (SIZE - 5_000)}),
    )
    yield Case("one term of 1 MiB", [rule(_QUICK)], event_with({"user.id": "u" * SIZE}))
    yield Case(
        "one term of 1 MiB, outside ASCII",
        [rule(_QUICK, new_terms=NewTerms((_LINE,), 1, "now-7d"))],
        event_with({_LINE: "\u20ac" * (SIZE // 3)}),
    )
    long_term = NewTerms((_LINE, "process.args"), 604_800_000, "now-7d")
    yield Case(
        "64 tuples with a term of 1 MiB",
        [rule(_QUICK, new_terms=long_term)],
        event_with({_LINE: "\u20ac" * (SIZE // 3 - 1_000), "process.args": values[:64]}),
    )
    yield many(
        "240 rules, 10,000 tuples each",
        [_QUICK] * MANY_RULES,
        {"process.args": values},
        new_terms=single,
    )
    yield many(
        "240 rules, most addresses as terms",
        [_QUICK] * MANY_RULES,
        {"host.ip": v6},
        new_terms=addresses,
    )
    yield many(
        "240 rules, 10,000 tuples of three fields each",
        [_QUICK] * MANY_RULES,
        {"host.ip": v6[:3_000], "process.executable": values[:3_000], "user.id": values[:3_000]},
        new_terms=three,
    )
    yield many("240 rules match an event of 1 MiB", [_QUICK] * MANY_RULES, {"message": "m" * SIZE})
    yield many(
        "240 query rules match an event of 1 MiB",
        [_QUICK] * MANY_RULES,
        {"message": "m" * SIZE},
        type=RuleType.QUERY,
        new_terms=None,
    )
    yield many(
        "240 query rules match a wide event",
        [_QUICK] * MANY_RULES,
        {"process": {f"u{n}": "x" for n in range(VALUES)}},
        type=RuleType.QUERY,
        new_terms=None,
    )
    yield many(
        "240 query rules match an event of many hosts",
        [_QUICK] * MANY_RULES,
        {"host.name": values[:3_000], "host.ip": v6[:3_000], "user.name": values[:3_000]},
        type=RuleType.QUERY,
        new_terms=None,
    )
    yield many(
        "240 rules, most dates as the time",
        [_QUICK] * MANY_RULES,
        {"@timestamp": [f"2026-03-02T08:00:00.{n:06}+01:00" for n in range(VALUES)]},
    )
    yield many(
        "240 rules, no time in most values",
        [_QUICK] * MANY_RULES,
        {"@timestamp": [f"2026-13-02T08:00:00.{n:06}+01:00" for n in range(VALUES)]},
    )


def all_at_once() -> Iterator[Case]:
    """Rules of a usual size, all on what the event has most of."""
    listed = [f"value {n}" for n in range(VALUES)]
    yield many(
        "240 rules of patterns, a value of 1 MiB",
        [
            f"{_LINE}:({alternatives(f'*tool{n}*evil{m}*' for m in range(20))})"
            for n in range(MANY_RULES)
        ],
        {_LINE: "tool evil " * (SIZE // 10)},
    )
    yield many(
        "240 rules of patterns, most values",
        [
            f"{_LINE}:({alternatives(f'*tool{n}*evil{m}*' for m in range(20))})"
            for n in range(MANY_RULES)
        ],
        {_LINE: listed},
    )
    yield many(
        "240 rules of two stars, most values",
        [f"{_LINE}:(*v*zz{n}* or *a*yy{n}*)" for n in range(MANY_RULES)],
        {_LINE: [f"value zz{n % 240} {n}"[::-1] + f"zz{n % 240} v" for n in range(VALUES)]},
    )
    yield many(
        "240 rules of words, a text of 1 MiB",
        [f"message:({alternatives(f'w{n}x{m}' for m in range(20))})" for n in range(MANY_RULES)],
        {"message": "a b c " * (SIZE // 6)},
    )
    yield many(
        "240 rules of phrases, a text of 1 MiB",
        [f'message:("a b {n}" or "b c {n}" or "c a {n}")' for n in range(MANY_RULES)],
        {"message": "a b c " * (SIZE // 6)},
    )
    yield many(
        "240 rules of free text",
        [f"never-there-{n}" for n in range(MANY_RULES)],
        {"process.args": listed},
    )
    yield many(
        "240 rules of many fields",
        [
            f"process.name:a{n} or process.parent.name:b or file.path:c or user.name:d or not host.os.type:windows"
            for n in range(MANY_RULES)
        ],
        {"process": [{"name": f"x{n}"} for n in range(VALUES // 2)]},
    )
    yield many(
        "240 rules of ranges and networks",
        [
            f'process.pid > {10**9 + n} or host.ip:"10.0.{n}.0/24" or event.created > "2027-01-01"'
            for n in range(MANY_RULES)
        ],
        {
            "process.pid": list(range(3_000)),
            "host.ip": [f"192.168.{n >> 8}.{n & 255}" for n in range(3_000)],
            "event.created": ["2026-03-02T08:00:00.000Z"] * 3_000,
        },
    )
    yield many(
        "240 rules, what is there",
        [f"process:* and threat:* and user.id:x{n}" for n in range(MANY_RULES)],
        {
            "process": {f"u{n}": {} for n in range(4_000)},
            "threat": {f"u{n}": [] for n in range(4_000)},
        },
    )
