"""Combinations of settings that cannot work, each with advice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pipeline.config.values import format_duration, format_size

if TYPE_CHECKING:
    from pipeline.config.settings import Settings


class Problem(NamedTuple):
    """What is wrong, and the settings that cause it."""

    keys: tuple[str, ...]
    text: str


def find_problems(settings: Settings) -> tuple[Problem, ...]:
    """Return every combination that cannot work, in the order of the sections."""
    return (
        *_sasl(settings),
        *_ssl(settings),
        *_timing(settings),
        *_sizes(settings),
        *_topics(settings),
    )


def _sasl(settings: Settings) -> Iterator[Problem]:
    kafka = settings.kafka
    protocol = kafka.security_protocol
    if protocol.startswith("SASL_"):
        for name in ("sasl_mechanism", "sasl_username", "sasl_password"):
            if getattr(kafka, name) is None:
                yield Problem(
                    ("kafka.security_protocol", f"kafka.{name}"),
                    f"kafka.security_protocol is {protocol}, but kafka.{name} is not set",
                )
        return
    for name in ("sasl_mechanism", "sasl_username", "sasl_password"):
        if getattr(kafka, name) is not None:
            meant = "SASL_SSL" if protocol == "SSL" else "SASL_SSL or SASL_PLAINTEXT"
            yield Problem(
                (f"kafka.{name}", "kafka.security_protocol"),
                f"kafka.{name} is set, but kafka.security_protocol is {protocol}: "
                f"did you mean {meant}?",
            )
            return


def _ssl(settings: Settings) -> Iterator[Problem]:
    kafka = settings.kafka
    certificate, key = kafka.ssl_certificate_location, kafka.ssl_key_location
    if certificate is not None and key is None:
        yield Problem(
            ("kafka.ssl_certificate_location",),
            "kafka.ssl_certificate_location is set, but kafka.ssl_key_location is not: "
            "a certificate is of no use without its key",
        )
    if key is not None and certificate is None:
        yield Problem(
            ("kafka.ssl_key_location",),
            "kafka.ssl_key_location is set, but kafka.ssl_certificate_location is not: "
            "a key is of no use without its certificate",
        )
    if kafka.ssl_key_password is not None and key is None:
        yield Problem(
            ("kafka.ssl_key_password",),
            "kafka.ssl_key_password is set, but kafka.ssl_key_location is not",
        )
    if kafka.security_protocol.endswith("SSL"):
        return
    for name in ("ssl_ca_location", "ssl_certificate_location"):
        if getattr(kafka, name) is not None:
            meant = "SASL_SSL" if kafka.security_protocol == "SASL_PLAINTEXT" else "SSL"
            yield Problem(
                (f"kafka.{name}", "kafka.security_protocol"),
                f"kafka.{name} is set, but kafka.security_protocol is {kafka.security_protocol}, "
                f"which encrypts nothing: did you mean {meant}?",
            )
            return


_SHORTER_THAN = (
    # The group coordinator expects several heartbeats in a session; see below for the factor.
    ("kafka.session_timeout", "kafka.request_timeout", "the client refuses to start otherwise"),
    ("kafka.session_timeout", "kafka.max_poll_interval", "a dead loop is found by the latter"),
    ("stream.event_deadline", "kafka.max_poll_interval", "else the group gives up first"),
    ("stream.commit_interval", "kafka.session_timeout", "else a rebalance repeats all its work"),
)
"""(shorter, longer, why)"""


def _timing(settings: Settings) -> Iterator[Problem]:
    kafka = settings.kafka
    if 3 * kafka.heartbeat_interval > kafka.session_timeout:
        yield Problem(
            ("kafka.heartbeat_interval", "kafka.session_timeout"),
            f"kafka.heartbeat_interval ({format_duration(kafka.heartbeat_interval)}) must be at "
            f"most a third of kafka.session_timeout ({format_duration(kafka.session_timeout)}), "
            "so that one lost heartbeat costs nothing",
        )
    for shorter, longer, why in _SHORTER_THAN:
        if settings.value(shorter) >= settings.value(longer):
            yield Problem(
                (shorter, longer),
                f"{shorter} ({format_duration(settings.value(shorter))}) must be shorter than "
                f"{longer} ({format_duration(settings.value(longer))}): {why}",
            )


def _sizes(settings: Settings) -> Iterator[Problem]:
    event, message = settings.stream.max_event_bytes, settings.kafka.message_max_bytes
    # An alert holds the event and copies of its entities; everything else in it is small.
    if message < 2 * event:
        yield Problem(
            ("kafka.message_max_bytes", "stream.max_event_bytes"),
            f"kafka.message_max_bytes ({format_size(message)}) must be at least twice "
            f"stream.max_event_bytes ({format_size(event)}): an alert holds the event and a copy "
            "of its fields",
        )


def _topics(settings: Settings) -> Iterator[Problem]:
    if not settings.topics.inputs:
        yield Problem(
            ("topics.inputs",), "topics.inputs is empty: name at least one topic to read from"
        )
    names = [(f"topics.{role}", name) for role, name in settings.topic_names().items()]
    names += [("topics.inputs", name) for name in settings.topics.inputs]
    for name, times in Counter(name for _, name in names).items():
        if times > 1:
            keys = tuple(dict.fromkeys(key for key, other in names if other == name))
            shown = " and ".join(key.removesuffix("_changelog") for key in keys)
            yield Problem(
                keys,
                f"topic {name!r} is used {times} times ({shown}): each use needs its own",
            )
