"""Topic files: one YAML file per topic, read and checked.

A file belongs to a role (``observations``, ``alerts``, ...); the settings say which topic plays it.
``name`` in the file is the name by default, for people.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

import pipeline
from pipeline.config import Settings
from pipeline.config.sources import did_you_mean
from pipeline.errors import TopicSpecError

INPUT = "input"
ROLES = (
    INPUT,
    "observations",
    "new_terms",
    "alerts",
    "overflow",
    "dead_letters",
    "first_seen_changelog",
    "quota_changelog",
)
CHANGELOG_SOURCES = {"first_seen_changelog": "observations", "quota_changelog": "new_terms"}
"""Changelog role -> the role it must have as many partitions as."""

STATEFUL_ROLES = frozenset({*CHANGELOG_SOURCES, *CHANGELOG_SOURCES.values()})
"""Where the partition of a key is where its state is."""

_DEFAULTS_FILE = "defaults.yml"
_REQUIRED = ("role", "name", "purpose", "key", "value", "produced_by", "consumed_by")
_OPTIONAL = ("partitions", "replication", "configs", "external")
_MIN_INSYNC = "min.insync.replicas"
_MAX_PARTITIONS = 10_000


def unequal_pairs(
    names: Mapping[str, str], partitions: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    """Yield each changelog and its source if they exist and differ in their partitions.

    Args:
        names: topic by role.
        partitions: how many partitions each topic has; those that do not exist are left out.
    """
    for changelog_role, source_role in CHANGELOG_SOURCES.items():
        changelog, source = names[changelog_role], names[source_role]
        if {changelog, source} <= partitions.keys() and (
            partitions[changelog] != partitions[source]
        ):
            yield changelog, source


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic should be.

    Attributes:
        role: what it is for; one of `ROLES`.
        name: its name in the cluster, from the settings.
        purpose: one sentence.
        key: what the record keys are.
        value: what the record values are, or the page that says so.
        partitions: how many; None for an input, where any number will do.
        replication: copies of each partition; None for an input.
        configs: topic configs by Kafka's names. For an input: what is advised.
        external: not ours: checked, never created or changed.
        produced_by: who writes to it.
        consumed_by: who reads it.
    """

    role: str
    name: str
    purpose: str
    key: str
    value: str
    partitions: int | None
    replication: int | None
    configs: Mapping[str, str]
    external: bool
    produced_by: tuple[str, ...]
    consumed_by: tuple[str, ...]


def topics_directory() -> Path:
    """The topic files of the package; in a checkout, its folder ``topics``."""
    packaged = resources.files(pipeline) / "_topics"
    if isinstance(packaged, Path) and packaged.is_dir():
        return packaged
    return Path(pipeline.__file__).resolve().parent.parent / "topics"


def load_topic_specs(directory: Path | None, settings: Settings) -> tuple[TopicSpec, ...]:
    """Read all topic files of a folder, with the names and the replication of the settings.

    Args:
        directory: the folder; None: ``topics.directory`` of the settings, else the package's.
        settings: they name the topics.

    Returns:
        The inputs, then our topics in the order of `ROLES`.

    Raises:
        TopicSpecError: with one line for everything that is wrong in any of the files.
    """
    directory = directory or settings.topics.directory or topics_directory()
    paths = sorted((*directory.glob("*.yml"), *directory.glob("*.yaml")))
    if not paths:
        raise TopicSpecError(f"{directory}: no topic files (*.yml) here; check topics.directory")
    reader = _Reader()
    files = {path: reader.read(path) for path in paths}
    defaults = next((data for path, data in files.items() if path.name == _DEFAULTS_FILE), {})
    reader.check_defaults(directory / _DEFAULTS_FILE, defaults)
    by_role: dict[str, dict[str, Any]] = {}
    for path, data in files.items():
        if path.name != _DEFAULTS_FILE and reader.check(path, data):
            if data["role"] in by_role:
                reader.problem(path, f"role {data['role']!r} has a file already")
            by_role[data["role"]] = data
    # A file that could not be read may be the missing one: say only what is certain.
    if not reader.problems:
        reader.check_roles(directory, by_role)
        if settings.topics.replication is None:  # else they are made to fit it
            reader.check_copies(directory, by_role, defaults)
    if reader.problems:
        raise TopicSpecError("\n".join(reader.problems))
    return tuple(_specs(by_role, defaults, settings))


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is given twice; YAML itself would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a text", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Reader:
    """Reads and checks files, collecting what is wrong."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def problem(self, path: Path, text: str) -> None:
        self.problems.append(f"{path}: {text}")

    def read(self, path: Path) -> dict[str, Any]:
        try:
            data = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)  # noqa: S506
        except (OSError, UnicodeDecodeError) as error:
            self.problem(path, f"cannot be read: {error}")
            return {}
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f":{mark.line + 1}" if mark else ""
            self.problems.append(f"{path}{place}: {getattr(error, 'problem', error)}")
            return {}
        except (ValueError, RecursionError) as error:  # 2026-13-45, and thousands of brackets
            self.problem(path, f"cannot be read: {error}")
            return {}
        if not isinstance(data, dict):
            self.problem(path, "must be a mapping of keys")
            return {}
        return data

    def check_defaults(self, path: Path, data: dict[str, Any]) -> None:
        self._check_keys(path, data, ("replication", "configs"))
        self._check_values(path, data)

    def check(self, path: Path, data: dict[str, Any]) -> bool:
        """Check one topic file; whether it can be used."""
        before = len(self.problems)
        if not data:
            return False
        self._check_keys(path, data, (*_REQUIRED, *_OPTIONAL))
        for name in _REQUIRED:
            if not data.get(name):
                self.problem(path, f"{name} is missing")
        role = data.get("role")
        if role and role not in ROLES:
            hint = did_you_mean(str(role), ROLES)
            self.problem(path, f"role: no such role: {role!r}{hint} (roles: {', '.join(ROLES)})")
        self._check_values(path, data)
        self._check_ownership(path, data)
        return len(self.problems) == before

    def check_roles(self, directory: Path, by_role: Mapping[str, Mapping[str, Any]]) -> None:
        """Check that each role has a file and that changelogs fit their sources."""
        for role in ROLES:
            if role not in by_role:
                self.problem(directory, f"no file has role {role!r}")
        if self.problems:
            return
        for changelog, source in CHANGELOG_SOURCES.items():
            count, wanted = by_role[changelog]["partitions"], by_role[source]["partitions"]
            if count != wanted:
                self.problem(
                    directory,
                    f"{by_role[changelog]['name']} has partitions: {count}, but "
                    f"{by_role[source]['name']} has {wanted}: a table and its source need as many",
                )
            policy = by_role[changelog].get("configs", {}).get("cleanup.policy")
            if policy != "compact":
                self.problem(
                    directory,
                    f"{by_role[changelog]['name']} has cleanup.policy: {policy}; a changelog needs "
                    "compact, else the table is forgotten",
                )

    def check_copies(
        self,
        directory: Path,
        by_role: Mapping[str, Mapping[str, Any]],
        defaults: Mapping[str, Any],
    ) -> None:
        """Check that no topic wants a write acknowledged by more copies than it has."""
        for role, data in by_role.items():
            copies = _replication(data, defaults)
            in_sync = int(_configs(data, defaults).get(_MIN_INSYNC, "1"))
            if role != INPUT and in_sync > copies:
                self.problem(
                    directory,
                    f"{data['name']} has replication: {copies}, but {_MIN_INSYNC}: {in_sync}: no "
                    "write to it could be acknowledged",
                )

    def _check_keys(self, path: Path, data: Mapping[str, Any], known: Iterable[str]) -> None:
        known = tuple(known)
        for name in data:
            if name not in known:
                self.problem(path, f"{name}: no such key{did_you_mean(str(name), known)}")

    def _check_values(self, path: Path, data: Mapping[str, Any]) -> None:
        for name, largest in (("partitions", _MAX_PARTITIONS), ("replication", 32_767)):
            value = data.get(name)
            if value is not None and (type(value) is not int or not 1 <= value <= largest):
                self.problem(path, f"{name}: {value!r} must be a whole number from 1 to {largest}")
        configs = data.get("configs", {})
        if not isinstance(configs, dict) or not all(
            isinstance(key, str) and isinstance(value, str | int | float)
            for key, value in configs.items()
        ):
            self.problem(path, "configs: must be a mapping of Kafka's topic configs to values")
        elif not _text(insync := configs.get(_MIN_INSYNC, 1)).isdecimal():
            self.problem(path, f"configs: {_MIN_INSYNC}: {insync!r} must be a whole number")
        for name in ("produced_by", "consumed_by"):
            value = data.get(name)
            if value and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
                self.problem(path, f"{name}: must be a list of names")

    def _check_ownership(self, path: Path, data: Mapping[str, Any]) -> None:
        is_input = data.get("role") == INPUT
        if bool(data.get("external", False)) != is_input:
            self.problem(path, "external: must be true for role input, and for no other")
        if is_input and (data.get("partitions") or data.get("replication")):
            self.problem(path, "partitions and replication of an input are not ours to say")
        if not is_input and data.get("partitions") is None:
            self.problem(path, "partitions is missing")


def _specs(
    by_role: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Any], settings: Settings
) -> Iterable[TopicSpec]:
    names: dict[str, tuple[str, ...]] = {
        role: (name,) for role, name in settings.topic_names().items()
    }
    names[INPUT] = settings.topics.inputs
    for role in ROLES:
        data = by_role[role]
        external = role == INPUT
        replication = None
        configs = _configs(data, {} if external else defaults)
        if not external:
            replication = _replication(data, defaults)
            if settings.topics.replication is not None:
                replication = settings.topics.replication
                configs = _fit_min_insync(configs, replication)
        for name in names[role]:
            yield TopicSpec(
                role=role,
                name=name,
                purpose=data["purpose"],
                key=data["key"],
                value=data["value"],
                partitions=data.get("partitions"),
                replication=replication,
                configs=configs,
                external=external,
                produced_by=tuple(data["produced_by"]),
                consumed_by=tuple(data["consumed_by"]),
            )


def _replication(data: Mapping[str, Any], defaults: Mapping[str, Any]) -> int:
    copies: int = data.get("replication", defaults.get("replication", 1))
    return copies


def _configs(data: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, str]:
    """Return a topic's configs, its own before the defaults, as Kafka writes their values."""
    merged = {**defaults.get("configs", {}), **data.get("configs", {})}
    return {key: _text(value) for key, value in merged.items()}


def _fit_min_insync(configs: Mapping[str, str], replication: int) -> dict[str, str]:
    """Lower ``min.insync.replicas`` so that one broker may be down, as far as copies allow."""
    wanted = int(configs.get(_MIN_INSYNC, "1"))
    return {**configs, _MIN_INSYNC: str(min(wanted, max(1, replication - 1)))}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
