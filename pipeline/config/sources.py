"""Sources of settings: flags, environment, a YAML file. Each value knows its source."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from yaml.composer import ComposerError

from pipeline.errors import SettingsError

ENV_PREFIX = "FIRSTSEEN_"
CONFIG_FILE_VARIABLE = "FIRSTSEEN_CONFIG"
"""Names the YAML file if no ``--config`` is given."""

_TEST_PREFIX = "FIRSTSEEN_TEST_"
# Kubernetes gives every container a set of variables for each service in its namespace. For a
# service called firstseen or firstseen-something, they begin with our prefix but are not ours.
_SERVICE_LINK = re.compile(
    r"_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?$"
)
# YAML's messages quote the name of a tag or an alias. An unquoted password that begins with ! or *
# is read as one. Anything else that they quote is a character or the kind of a token, `<scalar>`.
_QUOTED = re.compile(r"""['"].*['"]""", re.DOTALL)
_HARMLESS = re.compile(r"""[^'"]*('(.|<[a-z ]+>)'[^'"]*)*""")
# What YAML's reader raises for a text that only looks like a number or a date (2026-13-45).
_NO_VALUE = (ValueError, KeyError, AttributeError, OverflowError)
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given, and its source."""

    value: object
    source: str


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source gives, by dotted key, and what is wrong with it."""

    values: dict[str, Given]
    problems: tuple[str, ...] = ()


def env_name(key: str) -> str:
    """Return a setting's environment variable: FIRSTSEEN_KAFKA__GROUP_ID for ``kafka.group_id``."""
    return ENV_PREFIX + key.upper().replace(".", "__")


def from_environment(environ: Mapping[str, str], keys: Iterable[str]) -> Layer:
    """Read the variables that begin with ``FIRSTSEEN_``.

    An empty variable counts as not set, because compose files cannot leave one out.
    """
    names = {env_name(key): key for key in keys}
    shorts = [name.removeprefix(ENV_PREFIX) for name in names]
    values: dict[str, Given] = {}
    problems: list[str] = []
    for name, value in sorted(environ.items()):
        upper = name.upper()
        if not upper.startswith(ENV_PREFIX) or _is_foreign(upper, value):
            continue
        if upper not in names:
            # The prefix is common to all names, so it would make any two of them look alike.
            hint = did_you_mean(upper.removeprefix(ENV_PREFIX), shorts)
            hint = hint.replace("did you mean ", f"did you mean {ENV_PREFIX}")
            problems.append(f"{name}: no such setting{hint}")
        elif value:
            values[names[upper]] = Given(value, name)
    return Layer(values, tuple(problems))


def _is_foreign(name: str, value: str) -> bool:
    if name == CONFIG_FILE_VARIABLE or name.startswith(_TEST_PREFIX):
        return True
    if "__" in name:
        return False
    return bool(_SERVICE_LINK.search(name)) or (
        name.endswith("_PORT") and bool(_SERVICE_URL.match(value))
    )


def from_overrides(
    overrides: Mapping[str, object], keys: Iterable[str], secrets: Iterable[str]
) -> Layer:
    """Read values from the command line; None means that the flag was not used.

    Args:
        overrides: the values by key.
        keys: every setting.
        secrets: the secret settings, which are refused here.
    """
    known = frozenset(keys)
    problems = [
        f"{key}: no such setting{did_you_mean(key, known)}" for key in overrides if key not in known
    ]
    problems += [
        f"{key}: a secret is not taken from the command line, which every user of the machine can "
        f"read: set {env_name(key)} or {key}_file"
        for key in secrets
        if overrides.get(key) is not None
    ]
    return Layer(
        {
            key: Given(value, "command line")
            for key, value in overrides.items()
            if value is not None and key in known
        },
        tuple(problems),
    )


def from_file(path: Path, keys: Iterable[str]) -> Layer:
    """Read a YAML file of sections; within a section, ``group.id`` is read like ``group_id``.

    Raises:
        SettingsError: the file cannot be read or is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"cannot read the configuration file {path}: {reason}") from error
    # Messages need the positions of keys, so the nodes are walked instead of the values.
    try:
        loader = _Loader(text)
        try:
            return _FileReader(path, frozenset(keys), loader).read()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        what = getattr(error, "problem", None) or "unreadable"
        if not _HARMLESS.fullmatch(what):
            what = _QUOTED.sub("…", what)
        # The cause would print the line with the error, which may contain a password.
        raise SettingsError(f"{place}: this is not YAML: {what}") from None


_MAX_DEPTH = 16


class _Loader(yaml.SafeLoader):
    """Reads YAML without references, because a few lines of them may stand for gigabytes."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            problem = "a reference (*) is not read here; put a value that begins so in quotes"
            raise ComposerError(None, None, problem, self.get_mark())
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ComposerError(None, None, "it is nested too deep", self.get_mark())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _FileReader:
    def __init__(self, path: Path, keys: frozenset[str], loader: yaml.SafeLoader) -> None:
        self._path = path
        self._keys = keys
        self._sections = sorted({key.partition(".")[0] for key in keys})
        self._loader = loader
        self._values: dict[str, Given] = {}
        self._problems: list[str] = []

    def read(self) -> Layer:
        root = self._loader.get_single_node()
        if root is None:
            return Layer({})
        for section, node, place in self._entries(root, "the file"):
            if section not in self._sections:
                hint = did_you_mean(section, self._sections)
                self._problems.append(f"{section}: no such section{hint} (from {place})")
                continue
            if node.tag == "tag:yaml.org,2002:null":
                continue  # a section in which everything is commented out
            for name, value, where in self._entries(node, section):
                self._keep(f"{section}.{name.replace('.', '_')}", value, where)
        return Layer(self._values, tuple(self._problems))

    def _keep(self, key: str, node: yaml.Node, place: str) -> None:
        if key not in self._keys:
            hint = did_you_mean(key, self._keys)
            self._problems.append(f"{key}: no such setting{hint} (from {place})")
        elif key in self._values:
            self._problems.append(f"{key}: given twice (from {place})")
        else:
            try:
                value = self._loader.construct_object(node, deep=True)
            except _NO_VALUE:
                # The texts of these errors quote the value.
                self._problems.append(f"{key}: put this value in quotes (from {place})")
            else:
                self._values[key] = Given(value, place)

    def _entries(self, node: yaml.Node, what: str) -> list[tuple[str, yaml.Node, str]]:
        if not isinstance(node, yaml.MappingNode):
            self._problems.append(f"{what}: must be a mapping (from {self._place(node)})")
            return []
        entries = [(str(key.value), value, self._place(key)) for key, value in node.value]
        names = [name for name, _, _ in entries]
        self._problems += [
            f"{name}: given twice in {what} (from {place})"
            for index, (name, _, place) in enumerate(entries)
            if name in names[:index]
        ]
        return [entry for index, entry in enumerate(entries) if entry[0] not in names[:index]]

    def _place(self, node: yaml.Node) -> str:
        return f"{self._path}:{node.start_mark.line + 1}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: ``; did you mean X?``, or nothing."""
    close = difflib.get_close_matches(name, sorted(known), cutoff=_ALIKE)
    meant = next((other for other in close if _ends_alike(name, other)), None)
    return "" if meant is None else f"; did you mean {meant}?"


_ALIKE: Final = 0.6
_SEPARATOR = re.compile(r"\.|__")


def _ends_alike(name: str, other: str) -> bool:
    """Whether two names are alike in more than the sections that they share."""
    parts, others = _SEPARATOR.split(name), _SEPARATOR.split(other)
    while len(parts) > 1 and len(others) > 1 and parts[0] == others[0]:
        parts, others = parts[1:], others[1:]
    return difflib.SequenceMatcher(None, ".".join(parts), ".".join(others)).ratio() >= _ALIKE
