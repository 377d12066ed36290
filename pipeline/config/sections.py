"""The sections of the settings, except ``kafka``."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from pipeline.config.section import Section
from pipeline.config.values import Duration, Size, lower_case, parse_duration

_MOST_MEMORY = 1 << 40

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def _check_topic(name: str) -> str:
    """Check Kafka's own limits on topic names (its ``Topic.java``)."""
    if not _TOPIC.fullmatch(name) or name in {".", ".."}:
        raise ValueError(
            "is not a topic name: letters, digits, '.', '_' and '-', at most 249 characters"
        )
    return name


def _off(value: object) -> object:
    # YAML reads a bare `off` as false.
    return "off" if value is False else lower_case(value)


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
        description="Alerts beyond their rule's quota, in full.",
    )
    dead_letters: TopicName = Field(
        default="firstseen-dead-letters", description="Records that could not be processed."
    )
    directory: Path | None = Field(
        default=None, description="Folder of topic files; null: those in the package."
    )
    replication: int | None = Field(
        default=None,
        ge=1,
        le=32_767,
        description="Replication factor of all our topics, for clusters smaller than the topic "
        "files assume; null: what the files say.",
    )


class RulesSettings(Section):
    """Which rules run."""

    paths: tuple[Path, ...] = Field(
        default=(), description="Rule files and folders; if none, the built-in rules."
    )
    fields: Path | None = Field(
        default=None, description="JSON file with the types of fields that are not built in."
    )
    match_index: bool = Field(
        default=True,
        description="Whether a rule judges only events whose data stream fits its index patterns.",
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
        description="Folder of the tables, one volume per worker; rebuilt from Kafka if lost. It "
        "belongs to one group on one cluster; the workers of any other are refused.",
    )
    granularity: Duration = Field(
        default=timedelta(seconds=60),
        ge=timedelta(0),
        description="A repeat of a term within this time is not sent to the table again.",
    )
    max_future: Duration = Field(
        default=timedelta(minutes=5),
        ge=timedelta(0),
        description="How far an event's time may be after its arrival; beyond that, it is capped.",
    )
    standby_replicas: int = Field(
        default=0, ge=0, le=16, description="How many other workers keep a copy of each table."
    )
    dedupe_retention: Duration = Field(
        default=timedelta(hours=24),
        gt=timedelta(0),
        description="How long alert ids are remembered, so that none is sent twice; at most the "
        "latest 250,000 in each partition of the new-terms topic.",
    )
    learning: Duration = Field(
        default=timedelta(0),
        ge=timedelta(0),
        description="How long a new history only learns: its new terms go to the overflow topic, "
        "marked `learning`. Measured in event time, from its first one; a history that has begun "
        "to raise alerts does not learn again.",
    )
    learning_by_rule: tuple[RulePeriod, ...] = Field(
        default=(),
        description="Rules with a different learning period, each as RULE_ID=DURATION.",
    )
    backfill: Annotated[Literal["off", "auto"], BeforeValidator(_off)] = Field(
        default="off",
        description="`auto`: a rule that is new, or whose query has changed, learns from what the "
        "inputs retain before it raises alerts; `off`: only if you run `firstseen history "
        "backfill`.",
    )
    expiry_grace: Duration | None = Field(
        default=timedelta(hours=24),
        description="How much longer than its history a term is kept, for late events; null: terms "
        "are never removed.",
    )
    sweep_interval: Duration = Field(
        default=timedelta(minutes=10),
        ge=timedelta(seconds=1),
        description="Pause between two passes over the terms; a term seen since the previous pass "
        "began is not removed.",
    )
    max_entries_per_rule: int | None = Field(
        default=10_000_000,
        ge=1,
        description="How many terms a rule may remember, spread evenly over the partitions of the "
        "observations topic; null: no limit.",
    )
    when_full: Annotated[Literal["alert", "forget_oldest"], BeforeValidator(lower_case)] = Field(
        default="alert",
        description="What happens when a rule has as many terms as it may: `alert` raises an "
        "alert for each new one without remembering it, `forget_oldest` also removes those that "
        "have gone unseen for longest.",
    )
    block_cache_bytes: Size = Field(
        default=64 << 20,
        ge=1 << 20,
        le=_MOST_MEMORY,
        description="RocksDB block cache, shared by all tables and partitions.",
    )
    write_buffer_bytes: Size = Field(
        default=32 << 20,
        ge=1 << 16,
        le=_MOST_MEMORY,
        description="RocksDB write buffers of all tables and partitions together.",
    )
    forwarded_entries: int = Field(
        default=100_000,
        ge=0,
        le=2**31 - 1,
        description="How many recently sent terms are remembered in memory, for all rules "
        "together.",
    )


class StreamSettings(Section):
    """How records are read and processed, and the limits on a single one."""

    commit_interval: Duration = Field(
        default=timedelta(seconds=1),
        gt=timedelta(0),
        description="Time between commits; a crash repeats at most this much work.",
    )
    event_deadline: Duration = Field(
        default=timedelta(seconds=120),
        ge=timedelta(seconds=1),
        description="The worker stops if the outputs of a record find no room for this long. Set "
        "it longer than `kafka.delivery_timeout`, so that a failed delivery is reported first.",
    )
    max_event_bytes: Size = Field(
        default=1 << 20,
        ge=1024,
        description="Larger record values become dead letters (`too_large`).",
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
        le=2**31 - 1,
        description="An event with more values, including array elements and keys, becomes a dead "
        "letter (`too_many_values`); this bounds the time that a rule may take.",
    )
    buffer_records: int = Field(
        default=4096,
        ge=1,
        le=2**31 - 1,
        description="How many bundles of records (at most 500 each) wait in memory, per stage.",
    )
    max_waiting_bytes: Size = Field(
        default=16 << 20,
        ge=1 << 20,
        description="Size of the records that wait in memory for their stage; beyond it, reading "
        "pauses.",
    )
    filter_depth: Annotated[
        Literal["batch", "record", "event", "agent"], BeforeValidator(lower_case)
    ] = Field(
        default="batch",
        description="Where records that match nothing are dropped: by searching the whole record "
        "batch or each value, after decoding, or only in the agent. The verdicts are the same. "
        "With `event`, every record is decoded, so a record that is not an event becomes a dead "
        "letter even if no rule could have matched it. `agent` is for comparison only: it reads "
        "with aiokafka, and a batch that cannot be read stops its partition.",
    )
    native: Annotated[Literal["auto", "on", "off"], BeforeValidator(_on_or_off)] = Field(
        default="auto",
        description="Whether `firstseen-native` does the work that nearly every record needs: it "
        "searches batches, recognizes events that read alike to all rules, serializes what is sent "
        "of them, rewrites the rows of terms seen again, and makes batches. `auto`: if it is "
        "installed. Otherwise Python does this, more slowly. Verdicts are the same.",
    )
    fetch_max_bytes: Size = Field(
        default=16 << 20,
        ge=1 << 16,
        le=2**31 - 1,
        description="Largest response to one fetch, per broker.",
    )
    max_partition_fetch_bytes: Size = Field(
        default=4 << 20,
        ge=1 << 16,
        le=2**31 - 1,
        description="Largest share of one partition in such a response.",
    )


class AlertsSettings(Section):
    """What an alert holds."""

    include_event: bool = Field(
        default=True, description="Whether the alert contains the whole event that raised it."
    )


class DeadLettersSettings(Section):
    """When too many bad records stop the worker, and how much of one is kept."""

    max_ratio: float | None = Field(
        default=0.1,
        gt=0,
        le=1,
        description="The worker stops if dead letters exceed this share of the last records; null: "
        "never.",
    )
    ratio_records: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="How many of the last records `max_ratio` considers.",
    )
    max_consecutive: int | None = Field(
        default=500,
        ge=1,
        description="The worker stops after this many dead letters in a row; null: never.",
    )
    max_value_bytes: Size = Field(
        default=65_536,
        ge=0,
        description="A value too large for the dead letter topic is cut to this size.",
    )


class WebSettings(Section):
    """The endpoints `/metrics`, `/healthz`, `/readyz`."""

    enabled: bool = Field(default=True, description="Whether to serve them.")
    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=9100, ge=0, le=65_535, description="Port; 0: any free one.")


class LogSettings(Section):
    """Logs, which go to standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower_case)] = (
        Field(default="info", description="Lowest level that is written.")
    )
    format: Annotated[Literal["auto", "json", "console"], BeforeValidator(lower_case)] = Field(
        default="auto", description="`auto`: `console` on a terminal, otherwise `json` (ECS)."
    )
