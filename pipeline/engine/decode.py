r"""From the bytes of a record to its documents.

A record holds one JSON object, as Elastic Agent and Beats write it. How Elastic Defend's own Kafka
client frames a burst is not documented, so a JSON array of objects and newline-joined objects are
read as well. Each of their documents is handled separately: a bad one is reported, and the good
ones still count.

`decode` never raises and never guesses: whatever JSON leaves undefined (a key given twice, NaN, a
number beyond the range of a double) is an error with a reason code. Two things are repaired,
because real shippers write them: a lone surrogate escape (``\ud800``) becomes U+FFFD, and an
integer beyond 64 bits becomes the nearest double, as in every reader of Elasticsearch.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, NoReturn, TypeVar

import msgspec
import orjson

from pipeline.errors import DecodeError

MAX_DEPTH: Final = 250
"""The highest value of `DecodeLimits.max_depth`: orjson cannot write more than 254 levels."""


_WHITESPACE: Final = b" \t\r\n"


Text = TypeVar("Text", str, bytes)


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Limits on the size and structure of a record.

    Attributes:
        max_bytes: the size of a record's value.
        max_depth: the nesting of objects and arrays in a document; 1 to `MAX_DEPTH`.
        max_documents: the number of documents in a record.
        max_values: the number of values in a document: keys and elements, at all levels. Reading
            and folding a value takes about a microsecond, once for all rules that read its field;
            free text takes ten for each clause. So this limits the time that a record takes.
    """

    max_bytes: int = 1_048_576
    max_depth: int = 64
    max_documents: int = 2_000
    max_values: int = 10_000

    def __post_init__(self) -> None:
        if not 1 <= self.max_depth <= MAX_DEPTH:
            raise ValueError(f"max_depth is {self.max_depth}, allowed are 1 to {MAX_DEPTH}")


class Document(msgspec.Struct, frozen=True):
    """One event of a record.

    Attributes:
        event: the decoded object.
        raw: its JSON text: as it came, or rewritten if orjson refused it.
        index: its number in the record, from 0; bad documents are counted too.
    """

    event: dict[str, Any]
    raw: bytes
    index: int


class Decoded(msgspec.Struct, frozen=True):
    """The documents of a record, and the first error in it, if any."""

    documents: tuple[Document, ...]
    error: DecodeError | None


def decode(value: bytes | None, limits: DecodeLimits) -> Decoded:
    """Return the documents of a record's value.

    The reasons of an error are ``null_value``, ``empty``, ``too_large``, ``invalid_utf8``,
    ``invalid_json``, ``not_an_object``, ``too_deep``, ``too_many_values``, ``duplicate_key`` and
    ``too_many_documents``.
    """
    if value is None:
        return Decoded((), DecodeError("null_value", "the record has no value: a tombstone"))
    if len(value) > limits.max_bytes:
        return Decoded((), _too_large(len(value), limits))
    if value[:1] != b"{" and value.lstrip(_WHITESPACE)[:1] == b"[":
        return _decode_array(value, limits)
    try:
        event = _parsed(orjson.loads, value)
    except orjson.JSONDecodeError:
        return _decode_unusual(value, limits)
    try:
        return Decoded((_checked(event, value, 0, limits),), None)
    except DecodeError as error:
        return Decoded((), error)


_LARGE: Final = 65_536


def _parsed(parse: Callable[[Text], Any], text: Text) -> Any:
    """Parse a JSON text, without interruption by the garbage collector if the text is large."""
    if len(text) < _LARGE or not gc.isenabled():
        return parse(text)
    # Parsed JSON has no cycles. But after every few hundred new objects, the collector would search
    # everything that the worker holds for some, which takes longer than the parsing.
    gc.disable()
    try:
        return parse(text)
    finally:
        gc.enable()


def _decode_unusual(value: bytes, limits: DecodeLimits) -> Decoded:
    """Decode what orjson refuses: errors, joined documents, lone surrogates."""
    if not value.strip():
        return Decoded((), DecodeError("empty", "the record's value is empty"))
    try:
        return Decoded((_document(value, 0, limits),), None)
    except DecodeError as error:
        lines = [line for line in value.split(b"\n") if line.strip()]
        if len(lines) < 2 or not (error.reason == "invalid_json" or _is_closed(lines[0])):
            return Decoded((), error)
        joined = _collect(iter(lines), limits)
        # If no line is a document, this is one broken text and not several: the error is its own.
        return joined if joined.documents else Decoded((), error)


def _is_closed(line: bytes) -> bool:
    """Whether the brackets that a line opens are closed in it, as in a document of its own."""
    return line.strip().startswith(b"{") and sum(map(_STEPS.__getitem__, _brackets(line))) == 0


def _decode_array(value: bytes, limits: DecodeLimits) -> Decoded:
    if _text_depth(value) > MAX_DEPTH + 1:  # otherwise each document is checked on its own
        return Decoded((), _too_deep(limits.max_depth))
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return Decoded((), _no_utf8(error))
    return _collect(_array_texts(text), limits)


def _collect(texts: Iterator[bytes | DecodeError], limits: DecodeLimits) -> Decoded:
    """Decode each document; keep the good ones and the first error."""
    documents = []
    first_error: DecodeError | None = None
    for index, text in enumerate(texts):
        if index >= limits.max_documents:
            first_error = first_error or DecodeError(
                "too_many_documents", f"the record has more than {limits.max_documents} documents"
            )
            break
        try:
            if isinstance(text, DecodeError):
                raise text
            documents.append(_document(text, index, limits))
        except DecodeError as error:
            first_error = first_error or error
    return Decoded(tuple(documents), first_error)


_SPACE = re.compile(r"[ \t\r\n]*")


def _array_texts(text: str) -> Iterator[bytes | DecodeError]:
    """Yield the text of each element of a JSON array, then an error if the array is malformed."""
    end = _skip(text, 0) + 1  # after the bracket
    end = _skip(text, end)
    if text[end : end + 1] == "]":
        end += 1
    else:
        end -= 1
        separator = ","
        while separator == ",":
            start = _skip(text, end + 1)
            try:
                _, end = _splitter.raw_decode(text, start)
            except ValueError as error:
                yield _invalid(error)
                return
            yield text[start:end].encode()
            end = _skip(text, end)
            separator = text[end : end + 1]
        if separator != "]":
            yield _invalid(f"an array is not closed at character {end}")
            return
        end += 1
    if _skip(text, end) != len(text):
        yield _invalid(f"text after the array at character {end}")


def _skip(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    return found.end() if found else start


def _document(raw: bytes, index: int, limits: DecodeLimits) -> Document:
    """Decode one JSON text that should be an object.

    Raises:
        DecodeError: it is not an object, or not acceptable.
    """
    try:
        event = _parsed(orjson.loads, raw)
    except orjson.JSONDecodeError:
        return _repaired(raw, index, limits)
    return _checked(event, raw, index, limits)


def _checked(event: Any, raw: bytes, index: int, limits: DecodeLimits) -> Document:
    """Return the document for a decoded value, having made sure that its text is unambiguous."""
    if type(event) is not dict:
        raise DecodeError("not_an_object", f"the document is {_json_type(event)}")
    if _is_plain(event, raw, limits):
        return Document(event, raw, index)
    keys = _count_keys(event, limits)
    # Each key is followed by a colon. If the text contains as many quote-colon pairs as there are
    # keys after decoding, and no key has whitespace before its colon, then no key was given twice:
    # a repeated key would leave one pair too many. An escaped quote before a colon, inside of a
    # value, looks like such a pair; then the colons outside of strings decide.
    if raw.count(b'":') != keys or _SPACED_COLON.search(raw):
        pairs = _STRING_TEXT.sub(b"", raw).count(b":")
        if pairs > limits.max_values:
            raise _too_many_values(limits)
        if pairs != keys:
            _exact(raw, limits)
    return Document(event, raw, index)


def _is_plain(event: dict[str, Any], raw: bytes, limits: DecodeLimits) -> bool:
    """Whether a text is unambiguous and within the limits: a fast check that most texts pass.

    If an encoder would write exactly this text for the event, no key is given twice. A value takes
    at least two bytes, and each level has an opening bracket.
    """
    return (
        len(raw) <= 2 * limits.max_values
        and len(raw.translate(None, _NOT_OPENING)) <= limits.max_depth
        and orjson.dumps(event) == raw
    )


_NOT_OPENING: Final = bytes(set(range(256)) - set(b"[{"))
_SPACED_COLON = re.compile(rb'"[ \t\r\n]+:')


def _repaired(raw: bytes, index: int, limits: DecodeLimits) -> Document:
    """Decode a text that orjson refuses: it contains lone surrogates, or it is an error."""
    event = _exact(raw, limits)
    if type(event) is not dict:
        raise DecodeError("not_an_object", f"the document is {_json_type(event)}")
    _count_keys(event, limits)
    return Document(event, orjson.dumps(event), index)


def _exact(raw: bytes, limits: DecodeLimits) -> Any:
    """Decode slowly and strictly.

    Raises:
        DecodeError: ``too_deep``, ``invalid_utf8``, ``invalid_json`` or ``duplicate_key``.
    """
    depth = _text_depth(raw)
    if depth > limits.max_depth:
        raise _too_deep(limits.max_depth)
    try:
        return _parsed(_scanner.decode, raw.decode())
    except UnicodeDecodeError as error:
        raise _no_utf8(error) from error
    except ValueError as error:
        raise _invalid(error) from error


# An unclosed string extends to the end of the text. A pattern that failed there would try again at
# each quote.
_STRING_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = [(byte in b"[{") - (byte in b"]}") for byte in range(256)]


def _text_depth(raw: bytes) -> int:
    """Return how deeply brackets nest in a JSON text, without recursion."""
    return max(accumulate(map(_STEPS.__getitem__, _brackets(raw)), initial=0))


def _brackets(raw: bytes) -> bytes:
    """Return the brackets of a JSON text that stand outside of strings."""
    return _STRING_TEXT.sub(b"", raw).translate(None, _NOT_BRACKETS)


def _count_keys(event: dict[str, Any], limits: DecodeLimits) -> int:
    """Return the number of keys in an object, at all levels.

    Raises:
        DecodeError: ``too_deep`` or ``too_many_values``.
    """
    keys = 0
    values_left = limits.max_values
    level: list[Any] = [event]
    for _ in range(limits.max_depth):
        below: list[Any] = []
        for node in level:
            values = node
            values_left -= len(node)
            if values_left < 0:
                raise _too_many_values(limits)
            if type(node) is dict:
                keys += len(node)
                values = node.values()
            for value in values:
                kind = type(value)
                if kind is dict or kind is list:
                    below.append(value)
        if not below:
            return keys
        level = below
    raise _too_deep(limits.max_depth)


_SURROGATES = re.compile("[\ud800-\udfff]")
_SAFE_DIGITS: Final = 18


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    event = {_well_formed(key): _repair(value) for key, value in pairs}
    if len(event) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if _well_formed(key) in seen:
                raise DecodeError("duplicate_key", f"the key {key[:200]!a} is given twice")
            seen.add(_well_formed(key))
    return event


def _repair(value: Any) -> Any:
    if isinstance(value, str):
        return _well_formed(value)
    if isinstance(value, list):  # objects in it have been repaired already
        return [_repair(item) for item in value]
    return value


def _well_formed(text: str) -> str:
    return _SURROGATES.sub("\ufffd", text)


def _integer(text: str) -> int | float:
    if len(text) <= _SAFE_DIGITS:
        return int(text)
    return _wide_integer(text)


def _wide_integer(text: str) -> int | float:
    number = _float(text)
    if abs(number) > 2.0**65:
        return number
    exact = int(text)
    return exact if -(2**63) <= exact < 2**64 else number


def _float(text: str) -> float:
    number = float(text)
    if number in _INFINITE:
        raise ValueError(f"the number {text[:50]} is beyond the range of a double")
    return number


_INFINITE: Final = frozenset({float("inf"), float("-inf")})


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


_splitter = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_constant)
"""Finds where a value ends. Its content is decoded later."""

_scanner = json.JSONDecoder(
    object_pairs_hook=_pairs,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_constant,
)


def _json_type(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _invalid(cause: object) -> DecodeError:
    return DecodeError("invalid_json", f"the value is no JSON: {cause}")


def _no_utf8(error: UnicodeDecodeError) -> DecodeError:
    return DecodeError("invalid_utf8", f"byte {error.start} is no UTF-8")


def _too_many_values(limits: DecodeLimits) -> DecodeError:
    message = f"the document holds more than {limits.max_values} values"
    return DecodeError("too_many_values", message)


def _too_deep(max_depth: int) -> DecodeError:
    return DecodeError("too_deep", f"the document nests deeper than {max_depth} levels")


def _too_large(size: int, limits: DecodeLimits) -> DecodeError:
    return DecodeError("too_large", f"the value has {size} bytes, the limit is {limits.max_bytes}")
