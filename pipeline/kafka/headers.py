"""Headers of dead letters: the reason and the position of the record, beside its own headers.

Key, value and headers of a dead letter are those of the record that failed. The headers that we add
begin with ``firstseen.`` and are UTF-8 text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.errors import DecodeError
from pipeline.record import Headers, Position

PREFIX = "firstseen."
MAX_HEADER_BYTES = 1024
"""Longer texts are cut: headers are for routing."""

_CODE = "firstseen.error.code"
_STAGE = "firstseen.error.stage"
_MESSAGE = "firstseen.error.message"
_RULE_ID = "firstseen.error.rule_id"
_TOPIC = "firstseen.original.topic"
_PARTITION = "firstseen.original.partition"
_OFFSET = "firstseen.original.offset"
_TIMESTAMP = "firstseen.original.timestamp"
_GROUP_ID = "firstseen.group_id"
_VERSION = "firstseen.version"
_RULESET = "firstseen.ruleset"
_ATTEMPT = "firstseen.attempt"
_FAILED_AT = "firstseen.failed_at"
_TRUNCATED = "firstseen.truncated"
_REQUEUED_PLACE = "firstseen.requeued.place"
_REQUEUED_AT = "firstseen.requeued.at"

# Upper bounds: a batch header (61 bytes) with a record's own fields (varints), and the fields of
# one header.
_RECORD_OVERHEAD = 100
_HEADER_OVERHEAD = 10


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be processed, and why.

    Attributes:
        key: the record's key.
        value: its value; None is a tombstone.
        headers: its headers, in order; without ours if the letter was read back.
        position: its position.
        timestamp_ms: its timestamp (epoch milliseconds).
        code: the reason as a stable name: a code or reason of `pipeline.errors`.
        stage: where it failed; one of the stages of the metric ``firstseen_errors_total``.
        message: the reason for people, without content of the event.
        rule_id: the rule that it failed in, if any.
        group_id: the worker's consumer group.
        version: the worker's version.
        ruleset: the digest of the rules that the worker ran.
        attempt: 1 for the first failure; each requeue that fails adds 1.
        failed_at: when it failed (timezone-aware).
        truncated: whether it was too large for the topic and lost a part; then it cannot be
            requeued.
    """

    key: bytes | None
    value: bytes | None
    headers: Headers
    position: Position
    timestamp_ms: int
    code: str
    stage: str
    message: str
    rule_id: str | None
    group_id: str
    version: str
    ruleset: str
    attempt: int
    failed_at: datetime
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class EncodedDeadLetter:
    """A record for the dead letter topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def encode_dead_letter(
    letter: DeadLetter, *, max_record_bytes: int, max_value_bytes: int
) -> EncodedDeadLetter:
    """Turn a dead letter into a record of the dead letter topic.

    Key, value and headers stay as they were. Only a record that is too large for the topic loses a
    part, and ``firstseen.truncated`` then says so. First, its value is cut to ``max_value_bytes``.
    If that is not enough, its own headers are left out and its key is cut as well.

    Args:
        letter: the dead letter.
        max_record_bytes: the largest record that the producer accepts
            (``kafka.message_max_bytes``).
        max_value_bytes: the size to which a value is cut (``dead_letters.max_value_bytes``).
    """
    headers = _original(letter.headers)
    room = max_record_bytes - _size(None, None, _our_headers(letter, truncated=True))
    if _size(letter.key, letter.value, headers) <= room:
        ours = _our_headers(letter, truncated=letter.truncated)
        return EncodedDeadLetter(letter.key, letter.value, headers + ours)
    # Key and value get at most a quarter each, so the result always fits.
    value = _head(letter.value, min(max_value_bytes, room // 4))
    key = letter.key
    if _size(key, value, headers) > room:
        headers, key = (), _head(key, room // 4)
    return EncodedDeadLetter(key, value, headers + _our_headers(letter, truncated=True))


def parse_dead_letter(key: bytes | None, value: bytes | None, headers: Headers) -> DeadLetter:
    """Read a record of the dead letter topic.

    Raises:
        DecodeError: ``invalid_envelope``: a header of ours is missing or unreadable.
    """
    try:
        texts = {name: raw.decode() for name, raw in headers if name.startswith(PREFIX)}
        return DeadLetter(
            key=key,
            value=value,
            headers=_original(headers),
            position=Position(
                texts[_TOPIC], _number(texts[_PARTITION], 2**31), _number(texts[_OFFSET], 2**63)
            ),
            timestamp_ms=int(texts[_TIMESTAMP][:20]),
            code=texts[_CODE],
            stage=texts[_STAGE],
            message=texts[_MESSAGE],
            rule_id=texts.get(_RULE_ID),
            group_id=texts[_GROUP_ID],
            version=texts[_VERSION],
            ruleset=texts[_RULESET],
            attempt=_number(texts[_ATTEMPT], 2**31),
            failed_at=_moment(texts[_FAILED_AT]),
            truncated=texts.get(_TRUNCATED) == "true",
        )
    except KeyError as error:
        raise DecodeError(
            "invalid_envelope",
            f"this is no dead letter of firstseen: {error} is not in its headers",
        ) from error
    except (ValueError, OverflowError) as error:  # the latter: a date at the calendar's edge
        raise DecodeError(
            "invalid_envelope", f"this is no dead letter of firstseen: unreadable header: {error}"
        ) from error


def next_attempt(headers: Headers) -> int:
    """Return which attempt failed now, by the record's headers; 1 unless it was requeued."""
    text = next((raw for name, raw in headers if name == _ATTEMPT), b"0")
    # Anybody can write such a header to an input; nonsense is ignored.
    return int(text) + 1 if text.isdigit() and len(text) <= 9 else 1


def requeue_headers(letter: DeadLetter) -> Headers:
    """Return the headers for writing a dead letter back to its topic.

    These are the record's own headers and the attempt, so that repeated failures show.
    """
    return (*_original(letter.headers), (_ATTEMPT, str(letter.attempt).encode()))


def note_headers(place: str, at: datetime) -> Headers:
    """Return the headers of a note that the letter at a position was written back to its topic."""
    moment = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return ((_REQUEUED_PLACE, place.encode()), (_REQUEUED_AT, moment.encode()))


def noted_place(headers: Headers) -> str | None:
    """Return the position that a note is about, or None if the record is not a note."""
    raw = next((raw for name, raw in headers if name == _REQUEUED_PLACE), None)
    return None if raw is None else raw.decode("utf-8", "replace")


def _our_headers(letter: DeadLetter, *, truncated: bool) -> Headers:
    failed_at = letter.failed_at.astimezone(UTC).isoformat(timespec="milliseconds")
    texts = {
        _CODE: letter.code,
        _STAGE: letter.stage,
        _MESSAGE: letter.message,
        _RULE_ID: letter.rule_id,
        _TOPIC: letter.position.topic,
        _PARTITION: str(letter.position.partition),
        _OFFSET: str(letter.position.offset),
        _TIMESTAMP: str(letter.timestamp_ms),
        _GROUP_ID: letter.group_id,
        _VERSION: letter.version,
        _RULESET: letter.ruleset,
        _ATTEMPT: str(letter.attempt),
        _FAILED_AT: failed_at.replace("+00:00", "Z"),
        _TRUNCATED: "true" if truncated else None,
    }
    return tuple((name, _cut(text)) for name, text in texts.items() if text is not None)


def _original(headers: Headers) -> Headers:
    return tuple((name, raw) for name, raw in headers if not name.startswith(PREFIX))


def _head(raw: bytes | None, size: int) -> bytes | None:
    return None if raw is None else raw[: max(size, 0)]


def _size(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Return the size of a record in bytes, with the most that Kafka's format adds to it."""
    return (
        _RECORD_OVERHEAD
        + len(key or b"")
        + len(value or b"")
        + sum(len(name.encode()) + len(raw) + _HEADER_OVERHEAD for name, raw in headers)
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{_FAILED_AT} has no time zone")
    return moment.astimezone(UTC)


def _number(text: str, end: int) -> int:
    number = int(text[:20])
    if not 0 <= number < end:
        raise ValueError(f"{number} is not from 0 to {end - 1}")
    return number


def _cut(text: str) -> bytes:
    """Return text as UTF-8, cut after a whole character; lone surrogates become question marks."""
    raw = text.encode("utf-8", "replace")
    return raw[:MAX_HEADER_BYTES].decode("utf-8", "ignore").encode()
