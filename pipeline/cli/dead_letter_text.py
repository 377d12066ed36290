"""Formats dead letters for people and for machines."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from pipeline.kafka.dead_letters import StoredLetter
from pipeline.kafka.headers import DeadLetter
from pipeline.terminal import printable

_SHOWN_BYTES = 4_000
_SHOWN_HEADER_BYTES = 300


def letter_row(stored: StoredLetter) -> tuple[object, ...]:
    """Return the cells of a letter's row in the list."""
    letter = stored.letter
    return (
        stored.place,
        _moment(letter.failed_at),
        letter.code,
        letter.stage,
        letter.position,
        letter.attempt,
        stored.size,
        _note(stored),
        letter.message,
    )


def _note(stored: StoredLetter) -> str:
    if stored.requeued:
        return "requeued" if stored.requeued == 1 else f"requeued {stored.requeued} times"
    return "truncated" if stored.letter.truncated else ""


def counts_text(counts: Counter[str], *, shown: int, pending: int) -> str:
    """Return the line below the list."""
    total = sum(counts.values())
    if not total:
        return "no dead letters"
    reasons = ", ".join(f"{count} {printable(code)}" for code, count in counts.most_common())
    latest = f" (the latest {shown} shown)" if shown < total else ""
    requeued = f"; {total - pending} of them requeued" if pending < total else ""
    return f"{total} dead letters{latest}: {reasons}{requeued}"


def letter_dict(stored: StoredLetter) -> dict[str, Any]:
    """Return what a letter says, without the record itself."""
    letter = stored.letter
    return {
        "letter": str(stored.place),
        "code": letter.code,
        "stage": letter.stage,
        "message": letter.message,
        "rule_id": letter.rule_id,
        "topic": letter.position.topic,
        "partition": letter.position.partition,
        "offset": letter.position.offset,
        "timestamp_ms": letter.timestamp_ms,
        "failed_at": _moment(letter.failed_at),
        "attempt": letter.attempt,
        "group_id": letter.group_id,
        "version": letter.version,
        "ruleset": letter.ruleset,
        "bytes": stored.size,
        "truncated": letter.truncated,
        "requeued": stored.requeued,
    }


def letter_text(place: str, letter: DeadLetter) -> str:
    """Return a letter as a block of lines, safe to print whatever the record contains."""
    facts = {
        "letter": place,
        "reason": f"{letter.code}: {letter.message}",
        "stage": letter.stage,
        "rule": letter.rule_id or "",
        "record": f"{letter.position}, of {_record_time(letter.timestamp_ms)}",
        "failed": f"{_moment(letter.failed_at)}, attempt {letter.attempt}",
        "worker": f"group {letter.group_id}, firstseen {letter.version}, rules {letter.ruleset}",
        "truncated": "yes: it cannot be requeued" if letter.truncated else "",
        "key": "" if letter.key is None else _shown(letter.key, _SHOWN_HEADER_BYTES),
    }
    lines = [f"{name:<10} {printable(text)}" for name, text in facts.items() if text]
    lines += [
        f"{'header':<10} {printable(name)}: {_shown(raw, _SHOWN_HEADER_BYTES)}"
        for name, raw in letter.headers
    ]
    if letter.value is None:
        return "\n".join([*lines, f"{'value':<10} none: a tombstone"])
    # The value goes on one line, whatever line breaks it contains, so it cannot fake a line of
    # ours.
    value = _shown(letter.value, _SHOWN_BYTES)
    return "\n".join([*lines, f"{'value':<10} {len(letter.value)} bytes", f"  {value}"])


def _shown(raw: bytes, limit: int) -> str:
    text = printable(raw[:limit].decode("utf-8", "backslashreplace"))
    more = len(raw) - limit
    return f"{text} … {more} bytes more: see --raw" if more > 0 else text


def _moment(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _record_time(timestamp_ms: int) -> str:
    try:
        return _moment(datetime.fromtimestamp(timestamp_ms / 1000, UTC))
    except (ValueError, OverflowError, OSError):
        return f"timestamp {timestamp_ms}"
