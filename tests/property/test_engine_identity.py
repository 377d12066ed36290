"""Keys and ids are hashes of one spelling, whichever encoder wrote it."""

from __future__ import annotations

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.identity import alert_id, term_key
from pipeline.types import Term

HISTORY = "0123456789abcdef"

texts = st.one_of(
    st.text(st.characters(max_codepoint=0x7F), max_size=20),
    st.text(st.characters(exclude_categories=()), max_size=20),
    st.text('a\x7f\u0080\ud800"\\/\b\x1f', max_size=6),
    st.builds(str.__mul__, st.sampled_from(["x", "\u00e9"]), st.integers(9_999, 10_001)),
)
terms = st.lists(
    st.one_of(texts, st.booleans(), st.floats(allow_nan=False), st.integers(-(2**63), 2**64 - 1)),
    min_size=1,
    max_size=3,
).map(tuple)


def digest(value: object) -> str:
    canonical = json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


@given(terms)
def test_a_key_is_the_hash_of_canonical_json(one: tuple[Term, ...]) -> None:
    assert HISTORY + digest(list(one))[:32] == term_key(HISTORY, one).hex()


@given(texts, st.integers(1, 2**31 - 1), terms, texts)
def test_an_alert_id_is_the_hash_of_canonical_json(
    rule_id: str, version: int, one: tuple[Term, ...], identity: str
) -> None:
    expected = digest([rule_id, version, list(one), identity])[:40]

    assert expected == alert_id(rule_id, version, one, identity)
