from __future__ import annotations

import msgspec
import pytest

from pipeline.engine.wire import (
    Forget,
    Hold,
    Learn,
    NewTerm,
    Release,
    decode_candidate,
    decode_observation_or_change,
    encode,
)
from pipeline.errors import DecodeError
from tests.sightings import HISTORY, RULE, observation


@pytest.mark.parametrize(
    "envelope",
    [
        msgspec.structs.replace(observation(), event=msgspec.Raw(b'{"a": 1}')),
        Learn("rule", HISTORY, 1, ("a", 1, 1.5, True), 0, 1, 2),
        Learn("rule", HISTORY, 1, ("cut",), 0, 1, 2, HISTORY + "00" * 16),
        Forget("rule", HISTORY),
        Forget("rule", HISTORY, HISTORY + "00" * 16),
        Hold("rule", HISTORY),
        Release("rule", HISTORY),
    ],
)
def test_what_the_observations_topic_holds_is_read_as_it_was_written(envelope) -> None:
    assert envelope == decode_observation_or_change(encode(envelope))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b'{"type":"learn"}',
        b'{"type":"unlearn","rule_id":"rule","history":"abababababababab"}',
        encode(Forget("rule", "abab")),
        encode(Hold("rule", "abab")),
        encode(Forget("rule", "no hex")),
        encode(Forget("rule", HISTORY, "cd" * 24)),
        encode(Forget("rule", HISTORY, HISTORY)),
    ],
)
def test_anything_else_is_no_envelope(value: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_observation_or_change(value)

    assert "invalid_envelope" == caught.value.reason


@pytest.mark.parametrize(
    "alert",
    [b"[1]", b'"x"', b"null", b'{"\xff":1}', b'{"a":"\xff"}', b'{"detection":{"\xff":1}}'],
)
def test_an_alert_that_is_no_object_or_no_text_is_no_candidate(alert: bytes) -> None:
    good = encode(NewTerm("id", RULE, ("x",), 0, 0, msgspec.Raw(b"{}")))
    decode_candidate(good)

    with pytest.raises(DecodeError, match="not a new term"):
        decode_candidate(good.replace(b'"alert":{}', b'"alert":' + alert))
