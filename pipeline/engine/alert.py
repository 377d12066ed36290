"""The alert document: Elastic Common Schema (ECS), with firstseen's own fields in ``detection``.

``event.kind`` is ``alert``, which ECS defines as raised by a detection rule outside the Elastic
Stack; ``signal`` and ``kibana.alert.*`` are reserved for Kibana's own rules. Every field is listed
in docs/reference/alert-fields.md.

A document is a function of its inputs, byte for byte: a replay that raises an alert again raises
the same bytes under the same id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import orjson

from pipeline.engine.durations import duration_text
from pipeline.engine.entities import (
    MAX_CHARACTERS,
    RELATED_FIELDS,
    bounded,
    entities,
    related,
)
from pipeline.engine.first_seen import FirstSeenVerdict
from pipeline.engine.identity import summary_id
from pipeline.engine.paths import FieldsReader
from pipeline.engine.reason import REASON_FIELDS, describe_event
from pipeline.engine.rule_fields import PROVIDER, rule_fields, rule_parts
from pipeline.engine.wire import NewTerm, Observation, RuleRef
from pipeline.errors import DecodeError
from pipeline.rules.model import Rule
from pipeline.rules.timestamp import MAX_MS, format_timestamp
from pipeline.types import Term

ECS_VERSION: Final = "9.0.0"
DATASET: Final = "firstseen.alert"

SEVERITY_NUMBER: Final = {"low": 21, "medium": 47, "high": 73, "critical": 99}
"""In ECS, ``event.severity`` is a number. These are Kibana's default risk scores for each
severity."""


_EVENT_FIELDS: Final = ("category", "type", "action", "outcome")
"""Fields below ``event`` that an alert copies from its event."""

_FIELDS: Final = FieldsReader(
    sorted(REASON_FIELDS | RELATED_FIELDS | {f"event.{name}" for name in _EVENT_FIELDS})
)


class EventContext:
    """What an alert copies from its event. All alerts of an event share it.

    Attributes:
        description: what happened, in one sentence.
        event_fields: the fields below ``event`` that are copied.
        entities: the entities involved, and the values to pivot on.
    """

    def __init__(self, raw: bytes) -> None:
        """Read the event's JSON text.

        Raises:
            DecodeError: ``invalid_envelope``: it is not a JSON object.
        """
        self._raw = raw
        self._original: orjson.Fragment | None = None
        event = _load(raw)
        fields = _FIELDS.read(event)
        self.description = describe_event(fields)
        self.event_fields: dict[str, Any] = {}
        for name in _EVENT_FIELDS:
            if values := fields.get(f"event.{name}"):
                several = name in {"category", "type"}
                self.event_fields[name] = values if several else values[0]
        self.entities = entities(event) | related(fields)

    @property
    def original(self) -> orjson.Fragment:
        """The event's JSON text, encoded as a JSON string."""
        if self._original is None:
            self._original = orjson.Fragment(_dump(self._raw.decode()))
        return self._original


def build_alert(
    observation: Observation,
    verdict: FirstSeenVerdict,
    rule: Rule | None,
    *,
    created_ms: int,
    ruleset_digest: str,
    include_event: bool = True,
    clock_ms: int = 0,
) -> NewTerm:
    """Return the alert for a new term tuple.

    Args:
        observation: the sighting that is new.
        verdict: the verdict on it.
        rule: the rule, for its description, threats, tags and references. Without it (on a worker
            that does not have the rule), the alert contains only what the observation says.
        created_ms: when the alert was raised (epoch milliseconds). It is a parameter so that a
            replay can pass the same value.
        ruleset_digest: the digest of the active rule set.
        include_event: whether ``event.original`` holds the event's JSON text.
        clock_ms: the event clock at the time of the verdict, epoch milliseconds.

    Raises:
        DecodeError: ``invalid_envelope``: the observation's event is not a JSON object, or is
            nested too deeply to be written. This cannot happen with an event that the match stage
            has read.
    """
    context = EventContext(bytes(observation.event))
    terms = _named_terms(observation.rule.fields, observation.terms)
    novelty = _novelty(observation, verdict, terms)
    detection = {
        "kind": "new_term",
        "history": observation.history,
        "new_terms": terms,
        "first_seen": _first_seen(observation, verdict),
    }
    document = _document(
        observation,
        rule,
        context,
        detection,
        reason=f"{context.description}: {novelty}",
        created_ms=created_ms,
        ruleset_digest=ruleset_digest,
        include_event=include_event,
    )
    return _new_term(observation, document, clock_ms)


def build_match_alert(
    observation: Observation,
    rule: Rule | None,
    context: EventContext,
    *,
    created_ms: int,
    ruleset_digest: str,
    include_event: bool = True,
) -> NewTerm:
    """Return the alert for a match of a `query` rule: an observation without terms or history.

    The arguments are those of `build_alert`, and `context`, which the alerts of an event share.
    """
    document = _document(
        observation,
        rule,
        context,
        {"kind": "match"},
        reason=f"{context.description}: matches the rule {observation.rule.name}",
        created_ms=created_ms,
        ruleset_digest=ruleset_digest,
        include_event=include_event,
    )
    return _new_term(observation, document, clock_ms=0)


def build_summary(
    rule: RuleRef,
    window_start_ms: int,
    *,
    window_end_ms: int,
    total: int,
    overflow: int,
    sample_terms: Sequence[Sequence[Term]],
    created_ms: int,
) -> tuple[str, bytes]:
    """Return (alert id, document) of the summary of a window that exceeded its quota.

    Args:
        rule: the rule.
        window_start_ms: the start of the window, epoch milliseconds.
        window_end_ms: its end.
        total: the number of alerts that the rule raised in the window.
        overflow: how many of them went to the overflow topic.
        sample_terms: the first tuples that went there.
        created_ms: when the summary was raised.
    """
    alert_id = summary_id(rule.id, window_start_ms)
    window = duration_text(window_end_ms - window_start_ms)
    reason = (
        f"rule {rule.name} raised {total} alerts in {window}, {overflow} more than its limit of "
        f"{rule.max_signals}: those are in the overflow topic"
    )
    document = {
        "@timestamp": format_timestamp(created_ms),
        "ecs": {"version": ECS_VERSION},
        "message": reason,
        "event": {
            **_event_fields(rule, alert_id, reason, created_ms),
            "start": format_timestamp(window_start_ms),
            "end": format_timestamp(window_end_ms),
        },
        "rule": rule_fields(rule, None, "new_terms" if rule.fields else "query"),
        "labels": {"severity": rule.severity, "alert_kind": "summary"},
        "detection": {
            "kind": "summary",
            "overflow": {
                "window": {
                    "start": format_timestamp(window_start_ms),
                    "end": format_timestamp(window_end_ms),
                },
                "limit": rule.max_signals,
                "total": total,
                "count": overflow,
                "sample": [
                    {"new_terms": _named_terms(rule.fields, terms)}
                    for terms in sample_terms
                    if terms
                ],
            },
        },
    }
    return alert_id, orjson.dumps(document)


def _new_term(observation: Observation, document: dict[str, Any], clock_ms: int) -> NewTerm:
    return NewTerm(
        alert_id=observation.alert_id,
        rule=observation.rule,
        terms=tuple(bounded(term) for term in observation.terms),
        time_ms=observation.time_ms,
        source_timestamp_ms=observation.source.timestamp_ms,
        alert=msgspec.Raw(_dump(document)),
        history=observation.history if observation.terms else "",
        clock_ms=min(clock_ms, MAX_MS),  # a damaged row may have moved the clock
    )


def _document(
    observation: Observation,
    rule: Rule | None,
    context: EventContext,
    detection: dict[str, Any],
    *,
    reason: str,
    created_ms: int,
    ruleset_digest: str,
    include_event: bool,
) -> dict[str, Any]:
    ref = observation.rule
    parts = rule_parts(ref, rule, "query" if detection["kind"] == "match" else "new_terms")
    fields = _event_fields(ref, observation.alert_id, reason, created_ms)
    fields |= context.event_fields
    if include_event:
        fields["original"] = context.original
    document: dict[str, Any] = {
        "@timestamp": format_timestamp(created_ms),
        "ecs": {"version": ECS_VERSION},
        "message": reason,
        "event": fields,
        "rule": parts["rule"],
        "labels": {"severity": ref.severity, "alert_kind": detection["kind"]},
    }
    document |= parts
    document |= context.entities
    if rule is not None and rule.building_block_type is not None:
        detection = {**detection, "building_block_type": rule.building_block_type}
    document["detection"] = detection | _provenance(observation, ruleset_digest)
    return document


def _event_fields(rule: RuleRef, alert_id: str, reason: str, created_ms: int) -> dict[str, Any]:
    return {
        "kind": "alert",
        "id": alert_id,
        "dataset": DATASET,
        "module": PROVIDER,
        "provider": PROVIDER,
        "created": format_timestamp(created_ms),
        "severity": SEVERITY_NUMBER.get(rule.severity, 0),
        "risk_score": rule.risk_score,
        "reason": reason,
    }


def _named_terms(fields: Sequence[str], terms: Sequence[Term]) -> list[dict[str, Term]]:
    if len(fields) != len(terms):  # written by a version that did not send the names
        return [{"value": bounded(term)} for term in terms]
    return [
        {"field": name, "value": bounded(term)} for name, term in zip(fields, terms, strict=True)
    ]


def _first_seen(observation: Observation, verdict: FirstSeenVerdict) -> dict[str, Any]:
    fields: dict[str, Any] = {"time": format_timestamp(verdict.first_ms)}
    if verdict.previous_ms is not None:
        fields["previous"] = format_timestamp(verdict.previous_ms)
    fields["window"] = duration_text(observation.window_ms, short=True)
    if not verdict.remembered:
        fields["remembered"] = False
    return fields


def _novelty(
    observation: Observation, verdict: FirstSeenVerdict, terms: Sequence[Mapping[str, Term]]
) -> str:
    """Return what is new, and how long it had not been seen."""
    shown = ", ".join(
        f"{term['field']} {_shown(term['value'])}" if "field" in term else _shown(term["value"])
        for term in terms
    )
    novelty = f"first time in {duration_text(observation.window_ms)} of {shown}"
    if not verdict.remembered:
        return f"{novelty}, unless alerted before: the rule is full and does not remember this"
    if verdict.previous_ms is None:
        return novelty
    return f"{novelty}, last at {format_timestamp(verdict.previous_ms)}"


def _shown(term: Term) -> str:
    if isinstance(term, bool):
        return "true" if term else "false"
    return str(term)[:300]


def _provenance(observation: Observation, ruleset_digest: str) -> dict[str, Any]:
    source: dict[str, Any] = {
        "topic": observation.source.topic,
        "partition": observation.source.partition,
        "offset": observation.source.offset,
        "index": observation.source.index,
    }
    if observation.source.timestamp_ms >= 0:
        source["timestamp"] = format_timestamp(observation.source.timestamp_ms)
    return {
        "event_id": bounded(observation.event_id),
        "event_time": format_timestamp(observation.time_ms),
        "event_time_capped": observation.capped,
        **({"event_time_source": observation.time_source} if observation.time_source else {}),
        "source": source,
        "ruleset": ruleset_digest,
    }


def _dump(document: Any) -> bytes:
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError as error:
        raise DecodeError("invalid_envelope", f"no alert can be made of it: {error}") from error


def _load(raw: bytes) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise DecodeError("invalid_envelope", f"its event is no JSON: {error}") from error
    if type(loaded) is not dict:
        raise DecodeError("invalid_envelope", "its event is no JSON object")
    # No string is longer than the JSON text that contains it, so most events need no check.
    return loaded if len(raw) <= MAX_CHARACTERS else bounded(loaded)
