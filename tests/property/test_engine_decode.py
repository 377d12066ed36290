"""Decoding any bytes, and any spelling of a JSON object."""

from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.decode import DecodeLimits, decode
from pipeline.errors import DecodeError

LIMITS = DecodeLimits(max_bytes=100_000, max_depth=6, max_documents=5)

REASONS = {
    "empty",
    "null_value",
    "too_large",
    "invalid_utf8",
    "invalid_json",
    "not_an_object",
    "too_deep",
    "duplicate_key",
    "too_many_documents",
}

texts = st.text(max_size=8)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=4)
spaces = st.text(" \t\r\n", max_size=2)


@st.composite
def spelled(draw: st.DrawFn, value: Any) -> str:
    """A legal spelling of a value: any whitespace, any character escaped or not."""
    before, after = draw(spaces), draw(spaces)
    if isinstance(value, dict):
        pairs = [f"{draw(spelled(key))}:{draw(spelled(item))}" for key, item in value.items()]
        text = "{" + (",".join(pairs) or draw(spaces)) + "}"
    elif isinstance(value, list):
        text = "[" + (",".join(draw(spelled(item)) for item in value) or draw(spaces)) + "]"
    elif isinstance(value, str):
        text = '"' + "".join(draw(character(each)) for each in value) + '"'
    else:
        text = json.dumps(value)
    return before + text + after


@st.composite
def character(draw: st.DrawFn, text: str) -> str:
    if draw(st.booleans()) or text in {'"', "\\"} or ord(text) < 0x20:
        units = text.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2))
    return text


deep = DecodeLimits(max_depth=64)


@settings(max_examples=300)
@given(objects.flatmap(lambda value: st.tuples(st.just(value), spelled(value))))
def test_every_spelling_of_an_object_decodes_to_the_same_event(case: tuple[Any, str]) -> None:
    value, text = case

    decoded = decode(text.encode(), deep)

    assert decoded.error is None
    assert [json.loads(text)] == [document.event for document in decoded.documents]
    assert value == decoded.documents[0].event
    assert value == orjson.loads(decoded.documents[0].raw)


json_like = st.text('{}[]",:\\ u0d8\n1e-', max_size=40).map(str.encode)


@settings(max_examples=600)
@given(st.one_of(st.none(), st.binary(max_size=60), json_like))
def test_decode_never_raises_and_its_errors_have_a_known_reason(value: bytes | None) -> None:
    decoded = decode(value, LIMITS)

    assert decoded.error is None or isinstance(decoded.error, DecodeError)
    assert decoded.error is None or decoded.error.reason in REASONS
    for document in decoded.documents:
        assert isinstance(document.event, dict)
        # The text goes into an envelope as it is, so every reader has to accept it.
        assert orjson.loads(document.raw) == document.event


@settings(max_examples=300)
@given(st.lists(objects, min_size=1, max_size=5), st.sampled_from(["lines", "array"]))
def test_joined_documents_are_decoded_one_by_one(events: list[dict[str, Any]], form: str) -> None:
    texts = [json.dumps(event) for event in events]
    value = "\n".join(texts) if form == "lines" else "[" + " , ".join(texts) + "]"

    decoded = decode(value.encode(), DecodeLimits())

    assert decoded.error is None
    assert events == [document.event for document in decoded.documents]
    assert list(range(len(events))) == [document.index for document in decoded.documents]


@given(st.integers())
def test_integers_beyond_64_bits_become_doubles(number: int) -> None:
    decoded = decode(b'{"n":%d}' % number, LIMITS)
    surrogate = decode(b'{"n":%d,"s":"\\ud800"}' % number, LIMITS)

    expected = number if -(2**63) <= number < 2**64 else float(number)
    assert [expected] == [document.event["n"] for document in decoded.documents]
    assert [expected] == [document.event["n"] for document in surrogate.documents]


@given(objects, st.sampled_from(["a", '"', "é", "😀", "\\", ":"]), values, values, st.booleans())
def test_a_key_given_twice_is_found_wherever_it_stands(
    event: dict[str, Any], key: str, first: Any, second: Any, compact: bool
) -> None:
    def spelled(value: Any) -> str:
        return orjson.dumps(value).decode() if compact else json.dumps(value)

    space = "" if compact else " "
    inner = (
        f"{{{spelled(key)}:{spelled(first)},{space}"
        f"{json.dumps(key, ensure_ascii=False)}:{spelled(second)}}}"
    )
    text = f'{{"outer":{space}{spelled(event)},{space}"x":{space}{inner}}}'

    decoded = decode(text.encode(), deep)

    assert decoded.error is not None
    assert decoded.error.reason == "duplicate_key"
    assert decoded.documents == ()


@given(st.integers(1, 12))
def test_nesting_is_refused_beyond_the_limit_and_only_there(depth: int) -> None:
    value = '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)

    decoded = decode(value.encode(), LIMITS)

    assert (depth > LIMITS.max_depth) == (decoded.error is not None)
    assert decoded.error is None or decoded.error.reason == "too_deep"


def test_a_number_beyond_the_range_of_a_double_is_no_json() -> None:
    decoded = decode(b'{"n":1e999}', LIMITS)

    assert decoded.error is not None
    assert decoded.error.reason == "invalid_json"
