"""KQL once more, as plainly as it can be said: the yardstick for the compiler.

It speaks of `tests.strategies.FIELDS` only, spreads an event into all its (path, value) pairs,
looks at every pair for every clause, and lets `re` match patterns. It shares nothing with the
compiler but the nodes, and nothing with the needles but what one is.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from fractions import Fraction
from itertools import groupby
from math import isfinite

from pipeline.kql import Needle
from pipeline.kql.nodes import And, Boolean, Is, Nested, Node, Not, Null, Or, Range, Text, Wildcard

# name: (path in the event, type, nested path)
TABLE = {
    "k": ("k", "keyword", None),
    "k.caseless": ("k", "caseless", None),
    "k.text": ("k", "text", None),
    "o.k": ("o.k", "keyword", None),
    "o.short": ("o.short", "short", None),
    "o.p.w": ("o.p.w", "wildcard", None),
    "o.msg": ("o.msg", "text", None),
    "o.n": ("o.n", "long", None),
    "o.x": ("o.x", "double", None),
    "b": ("b", "boolean", None),
    "ip": ("ip", "ip", None),
    "t": ("t", "date", None),
    "c": ("c", "wildcard", None),
    "flat": ("flat", "flattened", None),
    "geo": ("geo", "geo", None),
    "nest.k": ("nest.k", "keyword", "nest"),
    "nest.n": ("nest.n", "long", "nest"),
    "nest.deep.k": ("nest.deep.k", "keyword", "nest.deep"),
}
OBJECTS = {"o", "o.p", "dyn"}
NESTED = {"nest": None, "nest.deep": "nest"}


class RefusedError(Exception):
    """Elasticsearch would reject the search."""


def check(node: Node, nested: str | None = None) -> None:
    """Look at every clause, whatever the event: one bad literal spoils the whole query."""
    match node:
        case And() | Or():
            for child in node.children:
                check(child, nested)
        case Not():
            check(node.child, nested)
        case Nested():
            path = _full(node.path, nested)
            if path not in NESTED:
                raise RefusedError(path)
            check(node.child, path)
        case _:
            matches(node, {}, nested)
            _check_clause(node, nested)


def matches(node: Node, event: dict, nested: str | None = None) -> bool:
    match node:
        case And():
            return all(matches(child, event, nested) for child in node.children)
        case Or():
            return any(matches(child, event, nested) for child in node.children)
        case Not():
            return not matches(node.child, event, nested)
        case Nested():
            objects = _objects(event, node.path)
            return any(matches(node.child, o, _full(node.path, nested)) for o in objects)
        case _:
            return _clause(node, event, nested)


def holds(needle: Needle, event: dict) -> bool:
    """Whether a value of an event holds a needle."""
    for _, value in _pairs(event):
        text = _indexed("wildcard", value)
        if text is None or ((needle.starts or needle.ends) and not isinstance(value, str)):
            continue
        text = _lower(text) if needle.caseless else text
        if needle.starts and not text.startswith(needle.text):
            continue
        if needle.ends and not text.endswith(needle.text):
            continue
        if needle.text in text:
            return True
    return False


def _full(name: str, nested: str | None) -> str:
    return f"{nested}.{name}" if nested else name


def _pairs(value, path: tuple[str, ...] = ()):
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _pairs(entry, (*path, key))
    elif isinstance(value, list):
        for entry in value:
            yield from _pairs(entry, path)
    elif value is not None:
        yield ".".join(path), value


def _objects(value, path: str):
    """All objects at a path; keys that go on below it make an object where they stand."""
    if isinstance(value, list):
        for entry in value:
            yield from _objects(entry, path)
    elif isinstance(value, dict) and path == "":
        yield value
    elif isinstance(value, dict):
        below = {}
        for key, entry in value.items():
            if key == path:
                yield from _objects(entry, "")
            elif path.startswith(key + "."):
                yield from _objects(entry, path[len(key) + 1 :])
            elif key.startswith(path + "."):
                below[key[len(path) + 1 :]] = entry
        if below:
            yield below


def _fields_of(node: Is | Range, nested: str | None) -> list[tuple[str, str]]:
    """(path, type) of every field a clause speaks of. Refuses nested ones outside braces."""
    if isinstance(node.field, Wildcard):
        full = [*([f"{nested}."] if nested else []), ""]
        pattern = full[0] + "*".join(node.field.parts)
        named = [TABLE[name] for name in TABLE if _glob(pattern.split("*"), name)]
        if nested is not None and any(inside != nested for _, _, inside in named):
            raise RefusedError(pattern)
        return [(path, kind) for path, kind, _ in named]
    if node.field is None:
        return []
    name = _full(node.field, nested)
    if name in NESTED or (name in TABLE and TABLE[name][2] != nested):
        raise RefusedError(name)
    if name in TABLE:
        return [TABLE[name][:2]]
    if name.startswith("flat."):
        return [(name, "wildcard")]
    if name.startswith("dyn."):
        return [(name, "keyword")]
    return []


def _check_clause(node: Is | Range, nested: str | None) -> None:
    if isinstance(node.value, Null):
        raise RefusedError("null")
    if (node.field is None and nested is None) or _is_match_all(node, nested):
        return
    for _, kind in _fields_of(node, nested):
        _holds(node, kind, None, strict=True)


def _clause(node: Is | Range, event: dict, nested: str | None) -> bool:
    pairs = [(_full(path, nested), value) for path, value in _pairs(event)]
    if _is_match_all(node, nested):
        return True
    if node.field is None:
        return nested is None and _free_text(node, pairs)
    name = node.field if isinstance(node.field, Wildcard) else _full(node.field, nested)
    if name in OBJECTS:
        below = [(p, v) for p, v in pairs if p.startswith(f"{name}.")]
        return _exists(node) and any(
            _indexed(kind, v) is not None for p, v in below for kind in _views(p, nested)
        )
    return any(
        _holds(node, kind, value)
        for source, kind in _fields_of(node, nested)
        for path, value in pairs
        if path == source or (kind in {"flattened", "geo"} and path.startswith(f"{source}."))
    )


def _is_match_all(node: Is | Range, nested: str | None) -> bool:
    if not _exists(node):
        return False
    star = isinstance(node.field, Wildcard) and node.field.parts == ("", "")
    return star or (node.field is None and nested is None)


def _exists(node: Is | Range) -> bool:
    value = node.value
    return isinstance(node, Is) and isinstance(value, Wildcard) and value.parts == ("", "")


def _views(path: str, nested: str | None) -> list[str]:
    kinds = [k for source, k, inside in TABLE.values() if source == path and inside == nested]
    if path.startswith("flat."):
        kinds.append("wildcard")
    if path.startswith("dyn."):
        kinds.append("keyword")
    return kinds


def _free_text(node: Is, pairs: list) -> bool:
    options = [node]
    if isinstance(node.value, Wildcard):
        options = [Is(None, value) for value in _split(node.value)]
    return any(
        _holds(option, kind, value, lenient=True)
        for option in options
        for path, value in pairs
        for kind in _views(path, None)
    )


def _split(wildcard: Wildcard) -> list:
    # A space ends a part: mark the stars, split, and read the marks back. Parts without a star that
    # follow each other are one text.
    marked = "\0".join(wildcard.parts)
    pieces = [piece for piece in re.split("[ \t\n\r\u3000]", marked) if piece]
    found: list = []
    for starred, run in groupby(pieces, lambda piece: "\0" in piece):
        if starred:
            found += [Wildcard(tuple(piece.split("\0"))) for piece in run]
        else:
            found.append(Text(" ".join(run)))
    return found


def _holds(node: Is | Range, kind: str, value, *, strict=False, lenient=False) -> bool:
    """Whether one raw value satisfies a clause. ``strict``: only say whether it is refused."""
    literal = node.value
    splits = kind not in {"keyword", "caseless", "short"} and not lenient
    if splits and isinstance(node, Is) and isinstance(literal, Wildcard) and not _exists(node):
        # A list, so that every part is looked at: one refused part refuses the clause.
        options = [Is(None, part) for part in _split(literal)]
        return True in [_compare(option, kind, value, strict, lenient) for option in options]
    return _compare(node, kind, value, strict, lenient)


def _compare(node: Is | Range, kind: str, value, strict: bool, lenient: bool) -> bool:
    try:
        test = _test(node, kind)
    except RefusedError:
        if lenient:
            return False
        raise
    indexed = None if strict else _indexed(kind, value)
    return indexed is not None and test(indexed)


def _indexed(kind: str, value):
    text = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else str_of(value)
    if kind in {"keyword", "caseless", "short"}:
        limit = 3 if kind == "short" else 1024
        if text is None or len(text.encode("utf-16-le")) // 2 > limit:
            return None
        return _lower(text) if kind == "caseless" else text
    if kind in {"wildcard", "flattened"}:
        return text
    if kind == "text":
        return None if text is None else _words(text)
    if kind == "geo":
        return True
    return {"boolean": _boolean, "ip": _ip, "date": _date, "long": _long, "double": _double}[kind](
        value
    )


def str_of(value) -> str | None:
    if isinstance(value, int) and abs(value) >= 10**1000:
        return None
    return value if isinstance(value, str) else repr(value)


def _lower(text: str) -> str:
    return "".join("i" if c == "İ" else c.lower() for c in text)


def _words(text: str) -> list[str]:
    spaced = re.sub("([\u4e00-\u9fff])", r" \1 ", _lower(text))
    return re.findall(r"\w+", spaced)


def _boolean(value):
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False, "": False}.get(value) if isinstance(value, str) else None


def _ip(value):
    if not isinstance(value, str):
        return None
    try:
        address = ipaddress.ip_address(re.sub("(?s)%.+", "", value))
    except ValueError:
        return None
    if address.version == 4:
        address = ipaddress.ip_address(f"::ffff:{address}")
    return address


_RANGES = {
    "2024": (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)),
    "2024-01": (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)),
    "2024-01-31T10:00:00Z": (
        datetime(2024, 1, 31, 10, tzinfo=UTC),
        datetime(2024, 1, 31, 10, 0, 1, tzinfo=UTC),
    ),
}


def _date_range(text: str):
    """First and last millisecond; only for the texts that the strategies draw."""
    if text in _RANGES:
        first, after = (int(moment.timestamp() * 1000) for moment in _RANGES[text])
        return first, after - 1
    if re.fullmatch(r"-?[0-9]{1,19}(\.[0-9]{1,6})?", text):
        return (int(text.partition(".")[0]),) * 2
    return None


def _date(value):
    if isinstance(value, str):
        found = _date_range(value)
        return None if found is None else found[0]
    if isinstance(value, bool) or not -(2**63) <= value < 2**63:
        return None
    return int(value)


def _number(text: str) -> Fraction | None:
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return None
    return Fraction(text if not text.endswith(".") else text + "0")


def _long(value):
    if isinstance(value, bool):
        return None
    number = _number(value) if isinstance(value, str) else Fraction(value)
    if number is None or not -(2**63) <= int(number) < 2**63:
        return None
    return int(number)


def _double(value):
    if isinstance(value, bool):
        return None
    try:
        number = _number(value) if isinstance(value, str) else value
        return None if number is None or not isfinite(float(number)) else float(number)
    except OverflowError:
        return None


def _literal_text(literal) -> str:
    match literal:
        case Text():
            return literal.value
        case Wildcard():
            return "*".join(literal.parts)
        case Boolean():
            return "true" if literal.value else "false"
    raise RefusedError(literal)


def _glob(parts, text: str) -> bool:
    return re.fullmatch("(?s:.*)".join(map(re.escape, parts)), text) is not None


def _test(node: Is | Range, kind: str):
    literal = node.value
    if isinstance(node, Is) and isinstance(literal, Wildcard):
        return _pattern_test(literal, kind)
    text = _literal_text(literal)
    if isinstance(node, Range):
        return _range_test(node.operator, text, kind)
    return _equality_test(text, kind, phrase=isinstance(literal, Text) and literal.quoted)


def _pattern_test(pattern: Wildcard, kind: str):
    if pattern.parts == ("", "") and kind in {"long", "double", "boolean", "ip", "date", "geo"}:
        return lambda _: True
    if kind in {"keyword", "short", "wildcard", "flattened"}:
        return lambda indexed: _glob(pattern.parts, indexed)
    if kind == "caseless":
        return lambda indexed: _glob(map(_lower, pattern.parts), indexed)
    if kind == "text":
        if pattern.parts == ("", ""):
            return lambda _: True
        return lambda indexed: any(_glob(map(_lower, pattern.parts), w) for w in indexed)
    raise RefusedError(kind)


def _equality_test(text: str, kind: str, *, phrase: bool):
    if kind == "ip" and "/" in text:
        return _network_test(text)
    if kind == "text":
        wanted = _words(text)
        if not phrase:
            return lambda words: any(word in words for word in wanted)
        size = len(wanted)
        return lambda words: (
            size > 0 and any(words[i : i + size] == wanted for i in range(len(words)))
        )
    if kind == "date":
        found = _date_range(text)
        if found is None:
            raise RefusedError(text)
        return lambda value: found[0] <= value <= found[1]
    if kind == "boolean" and text not in {"true", "false"}:
        raise RefusedError(text)
    bound = _bound(text, kind)
    return lambda value: value == bound


def _network_test(text: str):
    head, _, prefix = text.partition("/")
    if _ip(head) is None:
        raise RefusedError(text)
    network = ipaddress.ip_network(text, strict=False)
    if network.version == 4:
        network = ipaddress.ip_network(f"::ffff:{head}/{96 + int(prefix)}", strict=False)
    return lambda address: address in network


def _range_test(operator: str, text: str, kind: str):
    if kind in {"boolean", "geo"}:
        raise RefusedError(kind)
    bound = _bound(text, kind, up=operator in {"<=", ">"})

    def compare(value) -> bool:
        return {
            "<": value < bound,
            "<=": value <= bound,
            ">": value > bound,
            ">=": value >= bound,
        }[operator]

    if kind == "text":
        return lambda words: any(map(compare, words))
    return compare


def _bound(text: str, kind: str, *, up: bool = False):
    if kind in {"keyword", "short", "wildcard", "flattened", "text"}:
        return text
    if kind == "caseless":
        return _lower(text)
    bound = None
    if kind == "date" and (found := _date_range(text)):
        bound = found[1] if up else found[0]
    elif kind == "ip":
        bound = _ip(text)
    elif kind in {"long", "double"}:
        bound = _number(text)
        bound = float(bound) if kind == "double" and bound is not None else bound
    elif kind == "boolean":
        bound = text == "true"
    if bound is None:
        raise RefusedError(text)
    return bound
