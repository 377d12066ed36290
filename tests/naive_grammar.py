"""The KQL grammar as a backtracking PEG, rule by rule in Kibana's order: the parser's yardstick.

Every function answers (value, position after it) or None, and an alternative that fails leaves no
trace. It may be slow.
"""

from __future__ import annotations

import re

from pipeline.kql.nodes import (
    MATCH_ALL,
    And,
    Boolean,
    Is,
    Nested,
    Node,
    Not,
    Null,
    Or,
    Range,
    Text,
    Wildcard,
)
from pipeline.kql.scanner import TRIMMED

WS = "[ \t\r\n\u00a0]"
STAR = object()


def parse(text: str) -> Node | None:
    """The query's node, or None when it is none."""
    start = _ws(text, 0)
    if start == len(text):
        return MATCH_ALL
    found = _or_query(text, start)
    if found is None or _ws(text, found[1]) < len(text):
        return None
    return found[0]


def _ws(text: str, position: int) -> int:
    return re.compile(f"{WS}*").match(text, position).end()


def _joined(text, position, kind, word, operand):
    found = operand(text, position)
    if found is None:
        return None
    children = [found[0]]
    position = found[1]
    while between := re.compile(f"{WS}+{word}{WS}+", re.IGNORECASE).match(text, position):
        found = operand(text, between.end())
        if found is None:
            break
        children.append(found[0])
        position = found[1]
    return (children[0] if len(children) == 1 else kind(tuple(children))), position


def _not(text, position, operand):
    word = re.compile(f"not{WS}+", re.IGNORECASE).match(text, position)
    if word and (found := operand(text, word.end())):
        return Not(found[0]), found[1]
    return operand(text, position)


def _or_query(text, position):
    return _joined(text, position, Or, "or", lambda t, p: _joined(t, p, And, "and", _not_query))


def _not_query(text, position):
    return _not(text, position, _sub_query)


def _bracketed(text, position, opening, closing, inside):
    if not text.startswith(opening, position):
        return None
    found = inside(text, _ws(text, position + 1))
    if found is None:
        return None
    end = _ws(text, found[1])
    return (found[0], end + 1) if text.startswith(closing, end) else None


def _sub_query(text, position):
    return (
        _bracketed(text, position, "(", ")", _or_query)
        or _nested(text, position)
        or _range(text, position)
        or _field_value(text, position)
        or _free_value(text, position)
    )


def _nested(text, position):
    field = _field(text, position)
    if field is None or isinstance(field[0], Wildcard):
        return None
    colon = _ws(text, field[1])
    if not text.startswith(":", colon):
        return None
    found = _bracketed(text, _ws(text, colon + 1), "{", "}", _or_query)
    return found and (Nested(field[0], found[0]), found[1])


def _range(text, position):
    field = _field(text, position)
    operator = field and re.compile("<=|>=|<|>").match(text, _ws(text, field[1]))
    value = operator and _literal(text, _ws(text, operator.end()))
    return value and (Range(field[0], operator.group(), value[0]), value[1])


def _field_value(text, position):
    field = _field(text, position)
    if field is None:
        return None
    colon = _ws(text, field[1])
    if not text.startswith(":", colon):
        return None
    unnamed = _literal(text, position)[0] == Null()
    return _value_list(text, _ws(text, colon + 1), None if unnamed else field[0])


def _free_value(text, position):
    value = _literal(text, position)
    return value and (Is(None, value[0]), value[1])


def _value_list(text, position, field):
    def item(text, position):
        return _not(text, position, lambda t, p: _value_list(t, p, field))

    def inside(text, position):
        return _joined(text, position, Or, "or", lambda t, p: _joined(t, p, And, "and", item))

    found = _bracketed(text, position, "(", ")", inside)
    if found:
        return found
    value = _literal(text, position)
    return value and (Is(field, value[0]), value[1])


def _field(text, position):
    found = _quoted(text, position) or _unquoted(text, position)
    if found is None:
        return None
    parts, end = found
    return ("".join(parts) if STAR not in parts else _stars(parts)), end


def _stars(parts) -> Wildcard:
    texts = [""]
    for part in parts:
        if part is STAR:
            texts.append("")
        else:
            texts[-1] += part
    return Wildcard(tuple(texts))


def _literal(text, position):
    found = _quoted(text, position)
    if found:
        return Text("".join(found[0]), quoted=True), found[1]
    found = _unquoted(text, position)
    if found is None:
        return None
    parts, end = found
    if STAR in parts:
        return _stars(parts), end
    value = "".join(parts)
    named = {"null": Null(), "true": Boolean(True), "false": Boolean(False)}
    return named.get(value, Text(value)), end


def _repeated(text, position, character):
    found = []
    while one := character(text, position):
        found.append(one[0])
        position = one[1]
    return found, position


def _quoted(text, position):
    if not text.startswith('"', position):
        return None
    found, end = _repeated(text, position + 1, _quoted_character)
    return (found, end + 1) if text.startswith('"', end) else None


def _quoted_character(text, position):
    return (
        _control(text, position)
        or _unicode(text, position)
        or _escaped(text, position, '\\"')
        or (text[position : position + 1] not in {"", '"'} and (text[position], position + 1))
    )


def _unquoted(text, position):
    found, end = _repeated(text, position, _unquoted_character)
    if not found:
        return None
    while found and found[0] is not STAR and found[0] in TRIMMED:
        found.pop(0)
    while found and found[-1] is not STAR and found[-1] in TRIMMED:
        found.pop()
    return found, end


def _unquoted_character(text, position):
    found = (
        _control(text, position)
        or _escaped(text, position, '\\():<>"*{}')
        or _unicode(text, position)
        or _keyword(text, position)
    )
    if found or position >= len(text):
        return found
    if text[position] == "*":
        return STAR, position + 1
    stop = re.compile(f"{WS}+(or|and){WS}+|not{WS}+", re.IGNORECASE)
    if text[position] in '\\():<>"*{}' or stop.match(text, position):
        return None
    return text[position], position + 1


def _control(text, position):
    control = {"\\t": "\t", "\\r": "\r", "\\n": "\n"}.get(text[position : position + 2])
    return control and (control, position + 2)


def _escaped(text, position, characters):
    pair = text[position : position + 2]
    if len(pair) == 2 and pair[0] == "\\" and pair[1] in characters:
        return pair[1], position + 2
    return None


def _unicode(text, position):
    found = re.compile(r"\\u([0-9a-fA-F]{4})").match(text, position)
    return found and (chr(int(found.group(1), 16)), found.end())


def _keyword(text, position):
    found = re.compile(r"\\(or|and|not)", re.IGNORECASE).match(text, position)
    return found and (found.group(1), found.end())
