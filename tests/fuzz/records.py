"""Endless records for the fuzzer: broken real shapes, made-up JSON, and bytes that are neither."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from tests.events import ENGINE, START, encode, library_event
from tests.mutations import FIELDS, MUTATIONS, WRONG_VALUES, _huge, _set, _wrong_type

FieldValue = Any
Kind = tuple[str, bytes | None]

# Fields that the fuzzer's rules read beyond those of the built-in one.
_MORE_FIELDS = (
    "event.created",
    "file.size",
    "host.ip",
    "message",
    "process.command_line",
    "process.pid",
    "registry.data.strings",
)
_ALL_FIELDS = (*FIELDS, *_MORE_FIELDS)
_PIECES = tuple({piece for path in _ALL_FIELDS for piece in path.split(".")})

_TEXTS = (
    "",
    " ",
    ENGINE,
    ENGINE.upper(),
    "a" * 1025,
    "a*b?c\\",
    '"},{"rule":{"id":"x"}}',
    "line\nbreak\r\n\ttab",
    "\x1b[2J\x1b]0;title\x07",
    "\u202egnp.exe\u202c\u200b",
    "\x00\x01\x7f\x85\u2028",
    "\ufeffİıßΣς\U0001f600",
    "10.0.0.7",
    "::ffff:10.0.0.7",
    "fe80::1%eth0",
    "1e400",
    "-0",
    "true",
    "2026-03-02T08:00:00Z",
    "2026-03-02T08:00:00.123456789+14:00",
    "9999-12-31T23:59:59.999Z",
    "0000-00-00",
    "99999999999999999999",
)
_STRUCTURE = (b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"\n", b"\x00", b"\\u", b"\\ud800")
_NEEDLES = (ENGINE.encode(), b"Automation", b"Management", b"automation.ni.dll")


def _scalar(rng: random.Random) -> FieldValue:
    choice = rng.randrange(8)
    if choice < 4:
        return rng.choice(_TEXTS)
    if choice == 4:
        return rng.choice(WRONG_VALUES)
    if choice == 5:
        return rng.randrange(-(2**66), 2**66) >> rng.randrange(66)
    if choice == 6:
        return rng.uniform(-1, 1) * 10.0 ** rng.randrange(-300, 300)
    return "".join(chr(rng.randrange(1, 0xD800)) for _ in range(rng.randrange(20)))


def _value(rng: random.Random, depth: int) -> FieldValue:
    choice = rng.random()
    if depth == 0 or choice < 0.6:
        return _scalar(rng)
    if choice < 0.8:
        return [_value(rng, depth - 1) for _ in range(rng.randrange(5))]
    return _object(rng, depth - 1)


def _object(rng: random.Random, depth: int) -> dict[str, FieldValue]:
    """Names of real fields at places where they may or may not belong, dotted or nested."""
    return {
        rng.choice(rng.choice((_PIECES, _ALL_FIELDS))): _value(rng, depth)
        for _ in range(rng.randrange(1, 6))
    }


def _generated(rng: random.Random, _: dict[str, Any]) -> bytes:
    event = _object(rng, 4)
    if rng.random() < 0.7:
        event["dll.name"] = ENGINE
    if rng.random() < 0.7:
        event["@timestamp"] = rng.choice(_TEXTS[-6:])
    return json.dumps(event, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def _several(rng: random.Random, event: dict[str, Any]) -> bytes:
    """Several fields at once are of the wrong type, or hold a value that hurts somewhere."""
    for _ in range(rng.randrange(1, 6)):
        event = _set_anyway(event, rng.choice(_ALL_FIELDS), _value(rng, 2))
    return encode(event)


def _set_anyway(event: dict[str, Any], path: str, value: FieldValue) -> dict[str, Any]:
    try:
        return _set(event, path, value)
    except (AttributeError, TypeError):  # a parent is no object any more: say it dotted
        return {**event, path: value}


def _arrays(rng: random.Random, event: dict[str, Any]) -> bytes:
    """Arrays in the term fields: their product is the number of tuples."""
    sizes = (1, 2, 5, 30, rng.choice((1, 1, 1, 300)))
    for field in ("user.id", "host.ip", "process.executable"):
        event = _set(event, field, [f"10.0.{n >> 8}.{n & 255}" for n in range(rng.choice(sizes))])
    return encode(event)


def _tokens(rng: random.Random, event: dict[str, Any]) -> bytes:
    """Structural characters come, go and double."""
    text = encode(event)
    for _ in range(rng.randrange(1, 5)):
        at, length = rng.randrange(len(text)), rng.randrange(8)
        text = text[:at] + rng.choice((*_STRUCTURE, text[at : at + 40])) + text[at + length :]
    return text


def _crossed(rng: random.Random, event: dict[str, Any]) -> bytes:
    """The head of one record and the tail of another."""
    one, other = encode(event), _generated(rng, event)
    return one[: rng.randrange(len(one))] + other[rng.randrange(len(other)) :]


def _planted(rng: random.Random, _: dict[str, Any]) -> bytes:
    """Bytes without a form, but with what the shortcut on raw bytes looks for."""
    noise = rng.randbytes(rng.randrange(400))
    if rng.random() < 0.5:
        noise = bytes(b'{}[]",:\\u0aF e1-\n'[byte % 17] for byte in noise)
    at = rng.randrange(len(noise) + 1)
    return noise[:at] + rng.choice(_NEEDLES) + noise[at:]


def _long(rng: random.Random, event: dict[str, Any]) -> bytes:
    """One value as long as a record may be, or many small ones."""
    size = rng.choice((5_000, 40_000, 400_000))
    value = rng.choice(("a" * size, "ab" * (size // 2), "Management" + "\u20ac" * (size // 3)))
    field = rng.choice(("process.command_line", "process.executable", "message", "user.id"))
    return json.dumps(_set(event, field, value), ensure_ascii=False).encode()


def _wide(rng: random.Random, event: dict[str, Any]) -> bytes:
    count = rng.choice((100, 2_000, 20_000))
    return encode({**event, "more": rng.choice(({str(n): n for n in range(count)}, [{}] * count))})


def _many(rng: random.Random, event: dict[str, Any]) -> bytes:
    """Many documents in one record, small ones or whole events."""
    text, count = rng.choice(((encode(event), 50), (encode(event), 1_000), (b"{}", 12_000)))
    return (
        b"\n".join([text] * count)
        if rng.random() < 0.5
        else b"[" + b",".join([text] * count) + b"]"
    )


def _escaped(rng: random.Random, event: dict[str, Any]) -> bytes:
    """Any character may be written as an escape."""
    text = encode(event).decode()
    return "".join(
        f"\\u{ord(c):04x}"
        if c.isalnum() and c not in "truefalsn0123456789" and rng.random() < 0.05
        else c
        for c in text
    ).encode()


def _plain(_: random.Random, event: dict[str, Any]) -> bytes:
    return encode(event)


Maker = Callable[[random.Random, dict[str, Any]], bytes]

# How often each kind comes. The costly ones are rare, or the run would be about them alone.
_WEIGHTS: dict[Maker, float] = {
    **dict.fromkeys(MUTATIONS, 20.0),
    _wrong_type: 120.0,
    _generated: 180.0,
    _several: 180.0,
    _tokens: 120.0,
    _crossed: 60.0,
    _planted: 100.0,
    _escaped: 40.0,
    _plain: 60.0,
    _arrays: 0.6,
    _long: 2.0,
    _wide: 1.0,
    _many: 0.2,
    _huge: 0.1,
}


def fuzzed_records(seed: int) -> Iterator[Kind]:
    """Yield (kind, value) without end; the same for the same seed."""
    rng = random.Random(seed)
    makers = list(_WEIGHTS)
    weights = list(_WEIGHTS.values())
    number = 0
    while True:
        for maker in rng.choices(makers, weights, k=1_000):
            number += 1
            if number % 500 == 0:
                yield "null", None
                continue
            event = library_event(
                number=number,
                host=f"h{rng.randrange(40)}",
                user=f"S-1-5-21-{rng.randrange(9)}",
                executable=rf"C:\Users\ann\tool-{rng.randrange(2_000)}.exe",
                at=START + timedelta(seconds=rng.randrange(-86_400 * 30, 86_400)),
                ingested=rng.random() < 0.5,
            )
            event["process"]["command_line"] = f"tool --load System.Management {number % 3_000}"
            event["host"]["ip"] = ["10.0.0.7", "fe80::1"]
            yield maker.__name__.removeprefix("_"), maker(rng, event)
