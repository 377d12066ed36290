"""Identifiers that stay the same when a record is processed again: term keys and alert ids.

All of them are hashes of canonical JSON: compact, with sorted keys, ASCII only. ASCII, because then
no reader's idea of Unicode can change a hash, and even a lone surrogate has an encoding. Types are
distinct: ``1``, ``"1"`` and ``true`` are three terms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

from pipeline.record import Position
from pipeline.types import Term

ALERT_ID_LENGTH = 40
"""Hexadecimal digits in an alert id: 160 bits."""

HISTORY_BYTES = 8
KEY_BYTES = 24
"""The length of a first-seen key: the 8 bytes of the history id, then 16 bytes of the tuple's
hash."""

_LONGEST_EVENT_ID: Final = 512
_LONG_TERM: Final = 10_000

# Created once: `json.dumps` would create an encoder per call, which takes longer than encoding.
_encoder = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), sort_keys=True)


def portable(term: Term) -> Term:
    """Return a term that all JSON readers agree on: an integer beyond 64 bits becomes a double."""
    if type(term) is int and not -(2**63) <= term < 2**64:
        return float(term)
    return term


def portable_terms(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """Return a tuple with `portable` applied to each term."""
    for term in terms:
        if type(term) is int:
            return tuple(map(portable, terms))
    return terms


def canonical_json(value: Any) -> bytes:
    """Return the canonical encoding of a JSON value, which hashes are computed from."""
    return _encoder.encode(value).encode()


def _canonical_terms(terms: Sequence[Term]) -> bytes:
    """Return the canonical JSON of a tuple; a long term shared by many tuples is encoded once."""
    if _are_plain(terms):
        return orjson.dumps(terms)
    if not any(map(_is_long, terms)):
        return canonical_json(list(terms))
    return b"[%b]" % b",".join(
        _canonical_text(term) if _is_long(term) else canonical_json(term) for term in terms
    )


def canonical_term(term: Term) -> bytes:
    """Return the canonical JSON of a term."""
    return orjson.dumps(term) if _are_plain((term,)) else canonical_json(term)


def _are_plain(terms: Sequence[Term]) -> bool:
    """Whether all terms are strings for which orjson, which is faster, writes canonical JSON.

    It writes some numbers differently, and DEL and characters outside of ASCII.
    """
    for term in terms:
        if type(term) is not str or not term.isascii() or "\x7f" in term:
            return False
    return True


def _is_long(term: Term) -> bool:
    return type(term) is str and len(term) >= _LONG_TERM


@lru_cache(maxsize=2)
def _canonical_text(text: str) -> bytes:
    return canonical_json(text)


def term_key(history: str, terms: Sequence[Term]) -> bytes:
    """Return the 24-byte key of a term tuple in a history.

    It is both the Kafka key of an observation and the key of its row. So a tuple of a history finds
    its row whichever way its event came in, and the rows of a history are one range of keys.

    Args:
        history: the history id, 16 hexadecimal digits.
        terms: the tuple, one term for each new-terms field.
    """
    digest = hashlib.sha256(_canonical_terms(terms)).digest()
    return bytes.fromhex(history)[:HISTORY_BYTES] + digest[: KEY_BYTES - HISTORY_BYTES]


def event_identity(event_id: str | None, position: Position, index: int) -> str:
    """Return what identifies an event among all others.

    This is ``event.id`` if the event has one, so that a record that a shipper sent twice is one
    event. A very long id is hashed, because it goes into each observation and alert besides the
    event. Otherwise it is the position that the event was read from, with the document's number
    unless it is the first of its record.
    """
    if event_id:
        return named_identity(event_id)
    place = f"{position.topic}/{position.partition}/{position.offset}"
    return f"{place}/{index}" if index else place


def named_identity(event_id: str) -> str:
    """Return the `event_identity` of an event with this ``event.id``."""
    if len(event_id) > _LONGEST_EVENT_ID:
        return f"sha256:{hashlib.sha256(canonical_json(event_id)).hexdigest()}"
    return event_id


def alert_id(rule_id: str, rule_version: int, terms: Sequence[Term], identity: str) -> str:
    """Return the id of the alert that a rule raises for a tuple because of an event.

    A new version of the rule gives new ids. Kibana does much the same: it hashes the index, the
    document id, the rule and the tuple.
    """
    if _are_plain(terms) and _are_plain((rule_id, identity)):
        return _hashed(orjson.dumps([rule_id, rule_version, terms, identity]))
    # The same text as above, but a long term is not encoded again for each tuple.
    opening = alert_id_opening(rule_id, rule_version)
    return _hashed(b"%b%b,%b]" % (opening, _canonical_terms(terms), canonical_json(identity)))


def alert_id_opening(rule_id: str, rule_version: int) -> bytes:
    """Return the beginning of the text that a rule's alert ids are hashes of, up to the tuple."""
    return canonical_json([rule_id, rule_version])[:-1] + b","


def summary_id(rule_id: str, window_start_ms: int) -> str:
    """Return the id of the summary alert of a rule's window."""
    return _hashed(canonical_json([rule_id, window_start_ms, "summary"]))


def _hashed(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:ALERT_ID_LENGTH]
