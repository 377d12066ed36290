"""Prints nodes as canonical text, on one line and with value lists collapsed.

For every node that a query can spell, ``parse(format_query(node)) == node``.
"""

from __future__ import annotations

from pipeline.kql.limits import check_depth
from pipeline.kql.nodes import (
    And,
    Boolean,
    FieldName,
    Is,
    Literal,
    Nested,
    Node,
    Not,
    Null,
    Or,
    Range,
    Text,
    Wildcard,
    children_of,
)
from pipeline.kql.scanner import SPECIAL, TRIMMED, WS

_CONTROL = {"\t": "\\t", "\r": "\\r", "\n": "\\n"}
_RAW_WS = "".join(set(WS) - set(_CONTROL))
_WORDS: dict[type[And | Or], str] = {And: " and ", Or: " or "}
_KEYWORDS = ("or", "and", "not")


def format_query(node: Node) -> str:
    """Return the canonical text of a query: equal nodes give equal texts.

    Text nodes that cannot be written unquoted (with outer whitespace, or reading ``null``, ``true``
    or ``false``) are quoted.

    Raises:
        QueryLimitError: the tree is deeper than a query may be.
    """
    check_depth(node)
    return _format(node)


def _format(node: Node) -> str:
    match node:
        case Is():
            field = "" if node.field is None else f"{_name(node.field)}:"
            return field + _literal(node.value)
        case Range():
            return f"{_name(node.field)} {node.operator} {_literal(node.value)}"
        case Nested():
            return f"{_name(node.path)}:{{ {_format(node.child)} }}"
        case Not():
            return "not " + _enclosed(node.child, node)
        case And() | Or():
            return _format_group(node)


def _format_group(node: And | Or) -> str:
    field = _common_field(node)
    if field is not None:
        return f"{_name(field)}:({_list(node)})"
    return _WORDS[type(node)].join(_enclosed(child, node) for child in node.children)


def _enclosed(child: Node, parent: Node) -> str:
    text = _format(child)
    if _needs_brackets(child, parent) and (isinstance(child, Not) or _common_field(child) is None):
        return f"({text})"
    return text


def _list(node: Node) -> str:
    """Return the inside of a value list: the same operators over bare values."""
    match node:
        case Not():
            return "not " + _enclosed_list(node.child, node)
        case And() | Or():
            return _WORDS[type(node)].join(_enclosed_list(c, node) for c in node.children)
        case Is():
            return _literal(node.value)
    raise AssertionError(node)


def _enclosed_list(child: Node, parent: Node) -> str:
    text = _list(child)
    return f"({text})" if _needs_brackets(child, parent) else text


def _needs_brackets(child: Node, parent: Node) -> bool:
    match parent:
        case Not():
            return isinstance(child, And | Or | Not)
        case And():
            return isinstance(child, And | Or)
        case _:
            return isinstance(child, Or)


def _common_field(node: Node) -> FieldName | None:
    """Return the one field that everything below tests for a value, if there is one."""
    field: FieldName | None = None
    pending = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, Is):
            if current.field is None or (field is not None and current.field != field):
                return None
            field = current.field
        elif isinstance(current, Range | Nested):
            return None
        pending.extend(children_of(current))
    return field


def _name(field: FieldName) -> str:
    if isinstance(field, Wildcard):
        return _stars(field)
    # Unquoted, `null` would be no field.
    return _unquoted(field) if _is_trimmed(field) and field != "null" else _quoted(field)


def _literal(literal: Literal) -> str:
    match literal:
        case Wildcard():
            return _stars(literal)
        case Boolean():
            return "true" if literal.value else "false"
        case Null():
            return "null"
        case Text(value="", quoted=False):
            return "\\t"  # the only spelling: whitespace that is trimmed away
        case Text(value=value, quoted=quoted):
            if quoted or not _is_trimmed(value) or value in {"null", "true", "false"}:
                return _quoted(value)
            return _unquoted(value)


def _is_trimmed(text: str) -> bool:
    return bool(text) and text.strip(TRIMMED) == text


def _stars(wildcard: Wildcard) -> str:
    # Escaped as one text, so that a keyword is seen together with the characters around it.
    return _unquoted("*".join(wildcard.parts), stars=_star_positions(wildcard))


def _star_positions(wildcard: Wildcard) -> frozenset[int]:
    positions = []
    position = -1
    for part in wildcard.parts[:-1]:
        position += len(part) + 1
        positions.append(position)
    return frozenset(positions)


def _quoted(text: str) -> str:
    return '"' + "".join(_quoted_character(c) for c in text) + '"'


def _quoted_character(character: str) -> str:
    if character in '\\"':
        return "\\" + character
    return _CONTROL.get(character) or _surrogate(character)


def _surrogate(character: str) -> str:
    return f"\\u{ord(character):04x}" if "\ud800" <= character <= "\udfff" else character


def _unquoted(text: str, stars: frozenset[int] = frozenset()) -> str:
    return "".join(_unquoted_character(text, i, stars) for i in range(len(text)))


def _unquoted_character(text: str, index: int, stars: frozenset[int]) -> str:
    character = text[index]
    if index in stars:
        return character
    if character in SPECIAL or _starts_keyword(text, index):
        # `\n` would be a newline, so the n of `not` has to be written as a code.
        return "\\u006e" if character == "n" else "\\" + character
    return _CONTROL.get(character) or _surrogate(character)


def _starts_keyword(text: str, index: int) -> bool:
    """Whether a word here could end the literal, or be read as and/or with what follows it."""
    for keyword in _KEYWORDS:
        end = index + len(keyword)
        if text[index:end].lower() != keyword:
            continue
        followed = end == len(text) or text[end] in _RAW_WS
        preceded = keyword == "not" or (index > 0 and text[index - 1] in _RAW_WS)
        return followed and preceded
    return False
