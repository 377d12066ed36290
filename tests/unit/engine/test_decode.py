from __future__ import annotations

import gc

import orjson
import pytest

from pipeline.engine.decode import MAX_DEPTH, DecodeLimits, decode

LIMITS = DecodeLimits(max_bytes=200, max_depth=4, max_documents=3)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null_value"),
        (b"", "empty"),
        (b" \r\n\t", "empty"),
        (b'{"a":"' + b"x" * 200 + b'"}', "too_large"),
        (b'{"a":"\xff"}', "invalid_utf8"),
        (b'{"a":"\xed\xa0\x80"}', "invalid_utf8"),
        (b'{"a":1', "invalid_json"),
        (b'{"a":1}{"b":2}', "invalid_json"),
        (b'{"a":NaN}', "invalid_json"),
        (b'{"a":-Infinity}', "invalid_json"),
        (b'{"a":1e400}', "invalid_json"),
        (b'{"a":01}', "invalid_json"),
        (b'{"a":"\x01"}', "invalid_json"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b"hello", "invalid_json"),
        (b"12", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b'"\\ud800"', "not_an_object"),
        (b"null", "not_an_object"),
        (b"[1]", "not_an_object"),
        (b"[[{}]]", "not_an_object"),
        (b'[{"a":1}', "invalid_json"),
        (b'[{"a":1} {"b":2}]', "invalid_json"),
        (b"[{}]x", "invalid_json"),
        (b"[{},]", "invalid_json"),
        (b'{"a":{"a":{"a":{"a":{}}}}}', "too_deep"),
        (b'{"a":[[[[]]]]}', "too_deep"),
        (b'{"s":"\\ud800","a":[[[[]]]]}', "too_deep"),
        (b"[" * 190, "invalid_json"),
        (b'{"a":' * 39, "too_deep"),
        (b'{"a":1,"a":2}', "duplicate_key"),
        (b'{"a":1,"\\u0061":2}', "duplicate_key"),
        (b'{"a" :1,"a":2}', "duplicate_key"),
        (b'{"x":{"a":1,"b":[{"c":1,"c":1}]}}', "duplicate_key"),
        (b'{"a":"\\":","a" :1,"b":2}', "duplicate_key"),
        (b'{"\\ud800":1,"\\udfff":2}', "duplicate_key"),
        (b"{}\n{}\n{}\n{}", "too_many_documents"),
    ],
)
def test_what_cannot_be_decoded_has_a_reason(value: bytes | None, reason: str) -> None:
    decoded = decode(value, LIMITS)

    assert decoded.error is not None
    assert reason == decoded.error.reason


def test_a_deep_array_does_not_reach_a_recursive_reader() -> None:
    decoded = decode(b"[" * 500_000, DecodeLimits())

    assert decoded.error is not None
    assert decoded.error.reason == "too_deep"


def test_unclosed_quotes_and_escapes_take_linear_time() -> None:
    decoded = decode(b'{"' + b'\\"' * 400_000, DecodeLimits())

    assert decoded.error is not None
    assert decoded.error.reason == "invalid_json"


@pytest.mark.parametrize("collects", [True, False])
def test_the_garbage_collector_is_left_as_it_was(collects: bool) -> None:
    """A worker that never collected again would grow until it is killed."""
    large = b'{"a":"%b"}' % (b"x" * 100_000)
    before = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        for value in (large, large[:-1]):
            decode(value, DecodeLimits())
            assert collects is gc.isenabled()
    finally:
        (gc.enable if before else gc.disable)()


def test_a_bad_document_does_not_hide_the_good_ones_on_other_lines() -> None:
    decoded = decode(b'{"a":1}\nbroken\n\n{"a":2}\n', LIMITS)

    assert decoded.error is not None
    assert decoded.error.reason == "invalid_json"
    assert [(0, {"a": 1}), (2, {"a": 2})] == [
        (document.index, document.event) for document in decoded.documents
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"a":1,"a":2}', "duplicate_key"),
        (b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", "too_deep"),
        (b'{"a":"\xff"}', "invalid_utf8"),
        (b'{"a":1,}', "invalid_json"),
        (b"7", "not_an_object"),
    ],
)
def test_whatever_is_wrong_with_a_line_the_good_ones_before_and_behind_it_count(
    bad: bytes, reason: str
) -> None:
    good = b'{"b":1}'
    for lines in ([bad, good], [good, bad], [good, bad, good]):
        decoded = decode(b"\n".join(lines), DecodeLimits())

        assert decoded.error is not None
        assert reason == decoded.error.reason
        assert lines.count(good) == len(decoded.documents)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a":1,"a":2,"x":[\n{"b":1}\n]}', "duplicate_key"),
        (b'{"a":' + b"[" * 70 + b"]" * 70 + b',"x":[\n{"b":1}\n]}', "too_deep"),
        (b'{"a":"\xff","x":[\n{"b":1}\n]}', "invalid_utf8"),
    ],
)
def test_a_line_inside_a_bad_document_is_no_document(text: bytes, reason: str) -> None:
    decoded = decode(text, DecodeLimits())

    assert decoded.error is not None
    assert (reason, ()) == (decoded.error.reason, decoded.documents)


def test_a_bad_element_does_not_hide_the_good_ones_of_an_array() -> None:
    decoded = decode(b'[{"a":1}, 7, {"a":3,"a":4}, {"s":"\\ud800"}]', DecodeLimits())

    assert decoded.error is not None
    assert decoded.error.reason == "not_an_object"
    assert [{"a": 1}, {"s": "\ufffd"}] == [document.event for document in decoded.documents]
    assert [b'{"a":1}', '{"s":"\ufffd"}'.encode()] == [each.raw for each in decoded.documents]


def test_the_documents_up_to_the_limit_are_kept() -> None:
    decoded = decode(b"{}\n" * 9, LIMITS)

    assert len(decoded.documents) == 3


def test_a_pretty_printed_document_is_one_document() -> None:
    decoded = decode(b'{\n  "a": {\n    "b": 1\n  }\n}\n', LIMITS)

    assert decoded.error is None
    assert [{"a": {"b": 1}}] == [document.event for document in decoded.documents]


def test_an_empty_array_is_a_record_without_events() -> None:
    decoded = decode(b"[ ]", LIMITS)

    assert ((), None) == (decoded.documents, decoded.error)


def test_a_lone_surrogate_becomes_the_replacement_character_and_the_text_follows() -> None:
    decoded = decode(b'{"a":["x\\ud800y",{"\\udc00":1}],"b":"\\ud83d\\ude00"}', LIMITS)

    assert decoded.error is None
    (document,) = decoded.documents
    assert {"a": ["x\ufffdy", {"\ufffd": 1}], "b": "😀"} == document.event
    assert b"\\ud800" not in document.raw


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64 - 1, -(2**63), 2**64, -(2**63) - 1])
def test_an_integer_is_the_same_beside_a_lone_surrogate(number: int) -> None:
    """64 bits are exact, whichever reader they go through: they may be terms."""
    plain = decode(b'{"n":%d}' % number, LIMITS)
    mended = decode(b'{"n":%d,"a":"\\ud800"}' % number, LIMITS)

    (one,), (other,) = plain.documents, mended.documents
    assert (one.event["n"], type(one.event["n"])) == (other.event["n"], type(other.event["n"]))


def test_a_value_that_looks_like_a_key_is_no_duplicate() -> None:
    decoded = decode(b'{"a":"\\":","b":"x : y"}', LIMITS)

    assert decoded.error is None
    assert [{"a": '":', "b": "x : y"}] == [document.event for document in decoded.documents]


@pytest.mark.parametrize("depth", [0, MAX_DEPTH + 1])
def test_a_depth_limit_that_no_reader_can_keep_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="max_depth"):
        DecodeLimits(max_depth=depth)


def test_an_event_of_very_many_values_is_told_and_not_judged() -> None:
    limits = DecodeLimits(max_values=100)
    flat = b'{"a":[%s]}' % b",".join([b"1"] * 99)
    nested = b'{"a":[%s]}' % b",".join([b'{"b":[1]}'] * 34)

    assert decode(flat, limits).error is None
    for value in (flat.replace(b"[1", b"[1,1"), nested):
        error = decode(value, limits).error
        assert error is not None
        assert error.reason == "too_many_values"


@pytest.mark.parametrize("leaf", [b"1", b'"\\ud800"'])
def test_the_deepest_document_that_a_limit_may_allow_can_be_written_again(leaf: bytes) -> None:
    limits = DecodeLimits(max_depth=MAX_DEPTH)
    value = b'{"a":' * MAX_DEPTH + leaf + b"}" * MAX_DEPTH

    decoded = decode(value, limits)
    deeper = decode(b'{"a":' + value + b"}", limits)

    assert decoded.error is None
    assert orjson.dumps(decoded.documents[0].event) == decoded.documents[0].raw
    assert deeper.error is not None
    assert deeper.error.reason == "too_deep"
