"""The sections of the settings, except ``kafka``."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from pipeline.config.section import Section
from pipeline.config.values import Duration, Size, parse_duration

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def _check_topic(name: str) -> str:
    """Check Kafka's own limits on topic names (its ``Topic.java``)."""
    if not _TOPIC.fullmatch(name) or name in {".", ".."}:
        raise ValueError(
            "is not a topic name: letters, digits, '.', '_' and '-', at most 249 characters"
        )
    return name


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _off(value: object) -> object:
    # YAML reads a bare `off` as false.
    return "off" if value is False else _lower(value)


def _on_or_off(value: object) -> object:
    # YAML reads a bare `on` as true.
    return "on" if value is True else _off(value)


TopicName = Annotated[str, AfterValidator(_check_topic)]


class TopicsSettings(Section):
    """Names of the topics."""

    inputs: tuple[TopicName, ...] = Field(
        default=("logs-endpoint.events.library",), description="Topics to read events from."
    )
    observations: TopicName = Field(
        default="firstseen-observations", description="Sightings of terms, keyed by rule and terms."
    )
    new_terms: TopicName = Field(
        default="firstseen-new-terms", description="New terms, keyed by rule."
    )
    alerts: TopicName = Field(default="firstseen-alerts", description="Alerts.")
    overflow: TopicName = Field(
        default="firstseen-alerts-overflow",
        description="Alerts beyond the quota of their rule, in full.",
    )
    dead_letters: TopicName = Field(
        default="firstseen-dead-letters", description="Records that could not be processed."
    )
    directory: Path | None = Field(
        default=None, description="Folder of topic files; null: those of the package."
    )
    replication: int | None = Field(
        default=None,
        ge=1,
        le=32_767,
        description="Replication factor of all our topics, for clusters smaller than the topic "
        "files expect; null: what the files say.",
    )


class RulesSettings(Section):
    """Which rules run."""

    paths: tuple[Path, ...] = Field(
        default=(), description="Rule files and folders; none: the built-in rules."
    )
    fields: Path | None = Field(
        default=None, description="JSON file with types of fields beyond the built-in ones."
    )
    match_index: bool = Field(
        default=True,
        description="Whether a rule sees only events whose data stream fits its index patterns.",
    )


def _check_period(text: str) -> str:
    rule_id, _, duration = text.rpartition("=")
    if not rule_id:
        raise ValueError("is not RULE_ID=DURATION, like my-rule=7d")
    parse_duration(duration)
    return text


RulePeriod = Annotated[str, AfterValidator(_check_period)]


class StateSettings(Section):
    """What is remembered, where, and how exactly."""

    @property
    def learning_periods(self) -> dict[str, timedelta]:
        """`learning_by_rule` as durations by rule id."""
        pairs = (text.rpartition("=") for text in self.learning_by_rule)
        return {rule_id: parse_duration(duration) for rule_id, _, duration in pairs}

    directory: Path = Field(
        default=Path("./.firstseen/state"),
        description="Folder of the tables, one volume per worker; rebuilt from Kafka when lost.",
    )
    granularity: Duration = Field(
        default=timedelta(seconds=60),
        ge=timedelta(0),
        description="A repeat of a term within so long is not sent to the table again.",
    )
    max_future: Duration = Field(
        default=timedelta(minutes=5),
        ge=timedelta(0),
        description="How far an event's time may lie after its arrival; beyond, it is capped.",
    )
    standby_replicas: int = Field(
        default=0, ge=0, le=16, description="Further workers that keep a copy of each table."
    )
    dedupe_retention: Duration = Field(
        default=timedelta(hours=24),
        gt=timedelta(0),
        description="How long the ids of alerts are remembered, so that none is sent twice; at "
        "most the latest 250,000 of each partition of the new-terms topic.",
    )
    learning: Duration = Field(
        default=timedelta(0),
        ge=timedelta(0),
        description="How long a new history only learns: its new terms go to the overflow topic, "
        "marked `learning`. Measured in the time of the events, from its first one; a history that "
        "has begun to tell does not learn again.",
    )
    learning_by_rule: tuple[RulePeriod, ...] = Field(
        default=(),
        description="Rules that learn for another time, each as RULE_ID=DURATION.",
    )
    backfill: Annotated[Literal["off", "auto"], BeforeValidator(_off)] = Field(
        default="off",
        description="`auto`: a rule that is new, or whose query has changed, learns from what the "
        "inputs retain before it tells anything; `off`: only where `firstseen history backfill` "
        "is run.",
    )
    expiry_grace: Duration | None = Field(
        default=timedelta(hours=24),
        description="How much longer than its history a term is kept, for events that come late; "
        "null: terms are never removed.",
    )
    sweep_interval: Duration = Field(
        default=timedelta(minutes=10),
        ge=timedelta(seconds=1),
        description="Pause between two passes over the terms; one that was seen since the pass "
        "before began is not removed.",
    )
    max_entries_per_rule: int | None = Field(
        default=10_000_000,
        ge=1,
        description="Terms that a rule may remember, spread evenly over the partitions of the "
        "observations topic; null: no limit.",
    )
    when_full: Annotated[Literal["alert", "forget_oldest"], BeforeValidator(_lower)] = Field(
        default="alert",
        description="A rule has as many terms as it may: `alert` tells each new one without "
        "remembering it, `forget_oldest` also removes those not seen for longest.",
    )
    block_cache_bytes: Size = Field(
        default=64 << 20,
        ge=1 << 20,
        description="RocksDB block cache, shared by all tables and partitions.",
    )
    write_buffer_bytes: Size = Field(
        default=32 << 20,
        ge=1 << 16,
        description="RocksDB write buffers, of all tables and partitions together.",
    )
    forwarded_entries: int = Field(
        default=100_000,
        ge=0,
        description="Terms remembered in memory as sent lately, all rules together.",
    )


class StreamSettings(Section):
    """How records are read and processed, and the limits on a single one."""

    commit_interval: Duration = Field(
        default=timedelta(seconds=1),
        gt=timedelta(0),
        description="Time between commits; what a crash repeats at most.",
    )
    event_deadline: Duration = Field(
        default=timedelta(seconds=120),
        gt=timedelta(0),
        description="Records whose outputs find no room for so long stop the worker. Have it "
        "longer than `kafka.delivery_timeout`: then a delivery that fails is told first.",
    )
    max_event_bytes: Size = Field(
        default=1 << 20, ge=1024, description="Larger values become dead letters (`too_large`)."
    )
    max_depth: int = Field(
        default=64, ge=1, le=250, description="Deeper JSON becomes a dead letter (`too_deep`)."
    )
    max_documents: int = Field(
        default=2_000,
        ge=1,
        description="A record with more documents becomes a dead letter (`too_many_documents`).",
    )
    max_values: int = Field(
        default=10_000,
        ge=100,
        description="An event with more values, array elements and keys included, becomes a dead "
        "letter (`too_many_values`); it bounds the time that a rule may take.",
    )
    buffer_records: int = Field(
        default=4096,
        ge=1,
        le=2**31 - 1,
        description="Bundles of records (at most 500 each) that wait in memory, per stage.",
    )
    max_waiting_bytes: Size = Field(
        default=16 << 20,
        ge=1 << 20,
        description="Records that wait in memory for their stage; beyond, reading pauses.",
    )
    filter_depth: Annotated[
        Literal["batch", "record", "event", "agent"], BeforeValidator(_lower)
    ] = Field(
        default="batch",
        description="Where records that match nothing are dropped: by a search of the whole record "
        "batch, of each value, after decoding, or only by the agent. The verdicts are the same; "
        "with `event` each record is decoded, so what is no event becomes a dead letter even if no "
        "rule could have matched it. `agent` is there for comparison: it reads with aiokafka, "
        "and a batch that cannot be read stops its partition.",
    )
    native: Annotated[Literal["auto", "on", "off"], BeforeValidator(_on_or_off)] = Field(
        default="auto",
        description="Whether `firstseen-native` does what is done to nearly every record: it "
        "searches batches, tells events that read alike to all rules, spells out what is sent of "
        "them, rewrites the rows of what was seen again and makes batches; `auto`: where it is "
        "installed. Without it Python does that, which takes longer. Verdicts are the same.",
    )
    fetch_max_bytes: Size = Field(
        default=16 << 20,
        ge=1 << 16,
        le=2**31 - 1,
        description="Largest answer to one fetch, per broker.",
    )
    max_partition_fetch_bytes: Size = Field(
        default=4 << 20,
        ge=1 << 16,
        le=2**31 - 1,
        description="Share of one partition in such an answer.",
    )


class AlertsSettings(Section):
    """What an alert holds."""

    include_event: bool = Field(
        default=True, description="Whether the alert carries the whole event that raised it."
    )


class DeadLettersSettings(Section):
    """When too many bad records stop the worker, and how much of one is kept."""

    max_ratio: float | None = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Share of dead letters among the last records above which the worker stops; "
        "null: never.",
    )
    ratio_records: int = Field(
        default=1000, ge=1, le=1_000_000, description="How many last records `max_ratio` looks at."
    )
    max_consecutive: int | None = Field(
        default=500,
        ge=1,
        description="Dead letters in a row at which the worker stops; null: never.",
    )
    max_value_bytes: Size = Field(
        default=65_536,
        ge=0,
        description="A value too large for the dead letter topic is cut to this.",
    )


class WebSettings(Section):
    """The endpoints `/metrics`, `/healthz`, `/readyz`."""

    enabled: bool = Field(default=True, description="Whether to serve them.")
    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=9100, ge=0, le=65_535, description="Port; 0: any free one.")


class LogSettings(Section):
    """Logs, which go to standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        default="info", description="Least level that is written."
    )
    format: Annotated[Literal["auto", "json", "console"], BeforeValidator(_lower)] = Field(
        default="auto", description="`auto`: `console` on a terminal, else `json` (ECS)."
    )
