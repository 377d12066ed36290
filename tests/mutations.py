"""Bad records: real shapes, broken in every way that a stream has been seen to break."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.clients import Sent
from tests.events import ENGINE, encode, library_event

FIELDS = (
    "@timestamp",
    "data_stream",
    "data_stream.dataset",
    "dll.name",
    "event.category",
    "event.id",
    "event.ingested",
    "host.id",
    "host.os.type",
    "process.code_signature.subject_name",
    "process.code_signature.trusted",
    "process.executable",
    "process.name",
    "user.id",
)
"""Every field that the built-in rule or the engine reads."""

WRONG_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**63,
    10**40,
    "",
    "x" * 2000,
    "\u0000\x1b[31m",
    [],
    [None],
    {},
    {"a": {"b": []}},
    [[["deep"]]],
    ["windows", 1, None, {"x": 1}],
)


def _set(event: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(event)
    *parents, last = path.split(".")
    node = changed
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = value
    return changed


def _wrong_type(rng: random.Random, event: dict[str, Any]) -> bytes:
    return encode(_set(event, rng.choice(FIELDS), rng.choice(WRONG_VALUES)))


def _truncated(rng: random.Random, event: dict[str, Any]) -> bytes:
    text = encode(event)
    return text[: rng.randrange(len(text))]


def _flipped(rng: random.Random, event: dict[str, Any]) -> bytes:
    text = bytearray(encode(event))
    for _ in range(rng.randrange(1, 8)):
        text[rng.randrange(len(text))] = rng.randrange(256)
    return bytes(text)


def _deep(rng: random.Random, event: dict[str, Any]) -> bytes:
    depth = rng.choice([20, 63, 64, 65, 500, 5000])
    opening, closing = rng.choice([(b'{"a":', b"}"), (b"[", b"]")])
    nested = opening * depth + b"1" + closing * depth
    return encode(event)[:-1] + b',"deep":' + nested + b"}"


def _doubled_key(_: random.Random, event: dict[str, Any]) -> bytes:
    return encode(event)[:-1] + b',"dll":{"name":"other.dll"}}'


def _not_a_number(rng: random.Random, event: dict[str, Any]) -> bytes:
    return encode(event)[:-1] + b',"n":' + rng.choice([b"NaN", b"-Infinity", b"1e999"]) + b"}"


def _binary(rng: random.Random, _: dict[str, Any]) -> bytes:
    return rng.randbytes(rng.randrange(1, 3000))


def _other_json(rng: random.Random, _: dict[str, Any]) -> bytes:
    # Without all that a rule demands a record is skipped unread.
    demanded = [ENGINE, "windows", "library"]
    return json.dumps(rng.choice([0, None, [1, 2], ENGINE, demanded, [demanded]])).encode()


def _joined(rng: random.Random, event: dict[str, Any]) -> bytes:
    parts = [encode(event), _truncated(rng, event), encode({"other": 1})]
    rng.shuffle(parts)
    return b"\n".join(parts)


def _array(rng: random.Random, event: dict[str, Any]) -> bytes:
    return b"[" + b",".join([encode(event)] * rng.randrange(4)) + rng.choice([b"]", b""])


def _surrogate(_: random.Random, event: dict[str, Any]) -> bytes:
    return encode(event).replace(b"tool", rb"to\ud800ol")


def _spelled(_: random.Random, event: dict[str, Any]) -> bytes:
    return encode(event).replace(b"System.Management", rb"\u0053ystem.Management")


def _empty(rng: random.Random, _: dict[str, Any]) -> bytes:
    return rng.choice([b"", b" ", b"\n\n", b"\xef\xbb\xbf", b"\x00"])


def _huge(rng: random.Random, event: dict[str, Any]) -> bytes:
    return encode(_set(event, "message", "x" * rng.choice([1 << 20, 5_000_000])))


MUTATIONS: tuple[Callable[[random.Random, dict[str, Any]], bytes], ...] = (
    _wrong_type,
    _truncated,
    _flipped,
    _deep,
    _doubled_key,
    _not_a_number,
    _binary,
    _other_json,
    _joined,
    _array,
    _surrogate,
    _spelled,
    _empty,
)


def bad_records(count: int, *, seed: int, huge: int = 3) -> Iterator[Sent]:
    """Yield records: mutated ones, a null value now and then, and a few far too large."""
    rng = random.Random(seed)
    for number in range(count):
        event = library_event(number=number, executable=rf"C:\bad\tool-{number % 50}.exe")
        if number < huge:
            value: bytes | None = _huge(rng, event)
        elif number % 100 == 0:
            value = None
        else:
            # Wrong types are the many-sided kind, so they get half of it.
            mutation = _wrong_type if rng.random() < 0.5 else rng.choice(MUTATIONS)
            value = mutation(rng, event)
        yield Sent(value, headers=[("shipper", b"test"), ("empty", b"")])
