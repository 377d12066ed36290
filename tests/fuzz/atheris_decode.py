"""Coverage-guided fuzzing of the decoder (needs the dependency group `fuzz`).

python -m tests.fuzz.atheris_decode CORPUS -max_total_time=300      libFuzzer's options
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["pipeline"]):
    from pipeline.engine.decode import DecodeLimits, decode

import orjson

_LIMITS = DecodeLimits(max_bytes=20_000, max_depth=16, max_documents=50)
_REASONS = {
    "duplicate_key",
    "empty",
    "invalid_json",
    "invalid_utf8",
    "not_an_object",
    "too_deep",
    "too_large",
    "too_many_documents",
}


def one(data: bytes) -> None:
    """What holds for every value: decoded or a known reason, and texts that mean their events."""
    decoded = decode(data, _LIMITS)
    if decoded.error is None:
        if not decoded.documents and not data.strip().startswith(b"["):
            raise AssertionError("neither a document nor an error")
    elif decoded.error.reason not in _REASONS:
        raise AssertionError(f"an unknown reason: {decoded.error.reason}")
    for document in decoded.documents:
        if orjson.loads(document.raw) != document.event:
            raise AssertionError("a document whose text says something else")
        again = decode(document.raw, _LIMITS)
        if again.error is not None or again.documents[0].event != document.event:
            raise AssertionError("a document's text decodes to something else")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
