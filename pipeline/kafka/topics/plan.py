"""What `topics apply` would do: create missing topics, add missing partitions, set configs.

Nothing is ever deleted, and no topic ever shrinks: Kafka cannot do the latter, and we do not want
the former.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.kafka.topics.cluster import ClusterTopic
from pipeline.kafka.topics.spec import (
    CHANGELOG_SOURCES,
    STATEFUL_ROLES,
    TopicSpec,
    unequal_pairs,
)

Action = Literal["create", "raise_partitions", "set_config"]
Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to change in the cluster.

    Attributes:
        action: what is done.
        topic: the topic's name.
        what: the part of it that changes: ``partitions``, or the name of a config.
        now: its value in the cluster; empty for a new topic.
        wanted: its value in the topic file.
        spec: the topic file.
    """

    action: Action
    topic: str
    what: str
    now: str
    wanted: str
    spec: TopicSpec


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that `topics apply` does not change.

    Attributes:
        code: stable name: ``missing_input``, ``repartition_refused``, ``more_partitions``,
            ``replication_differs``, ``input_config_differs``, ``configs_unreadable``,
            ``no_leader``.
        severity: ``error`` if a worker would not run, or not correctly.
        topic: the topic's name.
        message: what is, what should be, and what to do.
    """

    code: str
    severity: Severity
    topic: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes to make, and findings that a person must look at."""

    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether a finding keeps a worker from running correctly."""
        return any(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, list[dict[str, str]]]:
        """Return the plan as plain data, for ``--json``."""
        return {
            "changes": [
                {
                    "action": change.action,
                    "topic": change.topic,
                    "what": change.what,
                    "now": change.now,
                    "wanted": change.wanted,
                }
                for change in self.changes
            ],
            "findings": [
                {
                    "code": finding.code,
                    "severity": finding.severity,
                    "topic": finding.topic,
                    "message": finding.message,
                }
                for finding in self.findings
            ],
        }

    def to_text(self) -> str:
        """Return the plan as a table and a list, for people."""
        if not self.changes and not self.findings:
            return "Nothing to do: the topics are as their files say."
        header = ("ACTION", "TOPIC", "WHAT", "NOW", "WANTED")
        rows = [header] + [
            (change.action, change.topic, change.what, change.now or "-", change.wanted)
            for change in self.changes
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (rows if self.changes else ())
        ]
        lines += [
            f"{finding.severity}: {finding.message} ({finding.code})" for finding in self.findings
        ]
        return "\n".join(lines)


def plan(
    specs: Iterable[TopicSpec],
    cluster: Mapping[str, ClusterTopic],
    *,
    accept_repartition: bool = False,
) -> Plan:
    """Compare topic files with the cluster.

    Args:
        specs: what should be.
        cluster: what is, for these topics.
        accept_repartition: whether partitions may be added to topics with state per partition. Keys
            then move to other partitions and leave their history behind, so that known terms raise
            alerts once more.
    """
    specs = tuple(specs)
    changes: list[Change] = []
    findings: list[Finding] = []
    for spec in specs:
        topic = cluster.get(spec.name)
        if spec.external:
            findings += _check_input(spec, topic)
        elif topic is None:
            mismatch = None if accept_repartition else _mismatch(spec, specs, cluster)
            if mismatch:
                findings.append(mismatch)
            else:
                changes.append(_create(spec))
        else:
            for step in _compare(spec, topic, accept_repartition=accept_repartition):
                if isinstance(step, Change):
                    changes.append(step)
                else:
                    findings.append(step)
    findings += _unequal_pairs(specs, cluster, changes, findings)
    findings += _leaderless(specs, cluster)
    return Plan(tuple(changes), tuple(findings))


def _leaderless(
    specs: Iterable[TopicSpec], cluster: Mapping[str, ClusterTopic]
) -> Iterator[Finding]:
    for topic in (cluster[spec.name] for spec in specs if spec.name in cluster):
        if topic.leaderless:
            one = len(topic.leaderless) == 1
            yield Finding(
                "no_leader",
                "error",
                topic.name,
                f"topic {topic.name} has no leader for partition{'' if one else 's'} "
                f"{', '.join(map(str, topic.leaderless))}, so nobody can read or write "
                f"{'it' if one else 'them'}: start the brokers that hold {'it' if one else 'them'}",
            )


def _create(spec: TopicSpec) -> Change:
    wanted = f"{spec.partitions} x {spec.replication}"
    return Change("create", spec.name, "partitions x replication", "", wanted, spec)


def _check_input(spec: TopicSpec, topic: ClusterTopic | None) -> Iterator[Finding]:
    if topic is None:
        yield Finding(
            "missing_input",
            "error",
            spec.name,
            f"input topic {spec.name} does not exist: create it, let the shipper create it, or "
            "correct topics.inputs",
        )
        return
    for name, advised in spec.configs.items():
        value = topic.configs.get(name)
        if value is not None and value != advised:
            yield Finding(
                "input_config_differs",
                "info",
                spec.name,
                f"input topic {spec.name} has {name}={value}; {advised} is advised "
                "(its topic file says why)",
            )


def _mismatch(
    spec: TopicSpec, specs: Iterable[TopicSpec], cluster: Mapping[str, ClusterTopic]
) -> Finding | None:
    """Return why a missing topic of a pair cannot be created beside the one that exists, if so."""
    partners = {**CHANGELOG_SOURCES, **{v: k for k, v in CHANGELOG_SOURCES.items()}}
    partner = next((s for s in specs if s.role == partners.get(spec.role)), None)
    topic = cluster.get(partner.name) if partner else None
    if topic is None or topic.partitions == spec.partitions:
        return None
    return Finding(
        "repartition_refused",
        "error",
        spec.name,
        f"topic {spec.name} would be created with {spec.partitions} partitions, but {topic.name} "
        f"has {topic.partitions}: write partitions: {topic.partitions} into both topic files",
    )


def _unequal_pairs(
    specs: Iterable[TopicSpec],
    cluster: Mapping[str, ClusterTopic],
    changes: Iterable[Change],
    findings: Iterable[Finding],
) -> list[Finding]:
    """Return an error for each changelog that would still not fit its source.

    Somebody may have added partitions to one of the two without firstseen. A pair of which one
    topic has an error already is left out.
    """
    names = {spec.role: spec.name for spec in specs}
    reported = {finding.topic for finding in findings if finding.code == "repartition_refused"}
    counts = {name: topic.partitions for name, topic in cluster.items()}
    counts |= {
        change.topic: change.spec.partitions or 0
        for change in changes
        if change.action == "raise_partitions"
    }
    unequal = []
    for pair in unequal_pairs(names, counts):
        if reported.intersection(pair):
            continue
        fewer, more = sorted(pair, key=lambda name: counts[name])
        unequal.append(
            Finding(
                "partitions_unequal",
                "error",
                fewer,
                f"topic {fewer} has {counts[fewer]} partitions, but {more} has {counts[more]}: no "
                f"worker can run; write partitions: {counts[more]} into both topic files, stop "
                "the workers and run: firstseen topics apply --accept-repartition",
            )
        )
    return unequal


def _compare(
    spec: TopicSpec, topic: ClusterTopic, *, accept_repartition: bool
) -> Iterator[Change | Finding]:
    yield from _compare_partitions(spec, topic, accept_repartition=accept_repartition)
    if spec.replication is not None and topic.replication != spec.replication:
        yield Finding(
            "replication_differs",
            "warning",
            spec.name,
            f"topic {spec.name} has {topic.replication} copies, its topic file says "
            f"{spec.replication}: move it with kafka-reassign-partitions.sh, or set "
            "topics.replication",
        )
    if not topic.configs and spec.configs:
        yield Finding(
            "configs_unreadable",
            "warning",
            spec.name,
            f"the configs of topic {spec.name} cannot be read: they are not compared "
            "(needs the right DescribeConfigs)",
        )
        return
    for name, wanted in spec.configs.items():
        now = topic.configs.get(name, "")
        if now != wanted:
            yield Change("set_config", spec.name, name, now, wanted, spec)


def _compare_partitions(
    spec: TopicSpec, topic: ClusterTopic, *, accept_repartition: bool
) -> Iterator[Change | Finding]:
    wanted = spec.partitions or topic.partitions
    if topic.partitions > wanted:
        yield Finding(
            "more_partitions",
            "warning",
            spec.name,
            f"topic {spec.name} has {topic.partitions} partitions, its topic file says {wanted}: "
            f"Kafka cannot take any away; write partitions: {topic.partitions}",
        )
    elif topic.partitions < wanted and spec.role in STATEFUL_ROLES and not accept_repartition:
        yield Finding(
            "repartition_refused",
            "error",
            spec.name,
            f"topic {spec.name} has {topic.partitions} partitions, its topic file says {wanted}: "
            "keys would move away from their history and known terms raise alerts as new; write "
            f"partitions: {topic.partitions}, or stop the workers and use --accept-repartition",
        )
    elif topic.partitions < wanted:
        yield Change(
            "raise_partitions", spec.name, "partitions", str(topic.partitions), str(wanted), spec
        )
