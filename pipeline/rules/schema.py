"""Checks a mapping against a table of keys.

Everything that is unknown, missing, of the wrong type or out of range is recorded as an issue, all
of it in one pass. Nothing raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

from pipeline.rules.issues import Issue, IssueSeverity
from pipeline.rules.locate import Place, TomlSource

_SHOWN = 100


@dataclass(slots=True)
class Notes:
    """Collects the issues of one rule file, each with the line of its key.

    Attributes:
        path: the rule file, if there is one.
        source: its text, to find lines in.
        rule_id: set as soon as it is known.
        issues: the issues found so far.
    """

    path: Path | None = None
    source: TomlSource | None = None
    rule_id: str | None = None
    issues: list[Issue] = field(default_factory=list)

    @property
    def has_errors(self) -> bool:
        return any(issue.severity == "error" for issue in self.issues)

    def add(
        self,
        code: str,
        place: Place,
        message: str,
        *,
        severity: IssueSeverity = "error",
        hint: str | None = None,
    ) -> None:
        """Add an issue about the key at ``place``."""
        line = self.source.line(place) if self.source is not None else None
        self.issues.append(Issue(code, severity, message, self.path, line, self.rule_id, hint))


class Kind(Protocol):
    """What a key's value must be."""

    @property
    def says(self) -> str:
        """The kind in words, for messages and the reference page: ``an array of strings``."""

    def check(self, value: Any, place: Place, notes: Notes) -> None:
        """Add an issue to ``notes`` if something is wrong with ``value``."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table.

    Attributes:
        kind: what its value must be.
        about: what it does, in one sentence, for the reference page.
        required: whether the table must have it.
        kept: whether firstseen keeps it without acting on it.
    """

    kind: Kind
    about: str
    required: bool = False
    kept: bool = False


Problem = Callable[[Any], str | None]
"""Returns what is wrong with a value of the right type, or None."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value of one of some exact types (a boolean is not an integer)."""

    says: str
    types: tuple[type, ...]
    problem: Problem | None = None

    def check(self, value: Any, place: Place, notes: Notes) -> None:
        if type(value) not in self.types:
            _note_wrong_type(self.says, value, place, notes)
            return
        text = self.problem(value) if self.problem is not None else None
        if text is not None:
            notes.add("bad_value", place, f"{dotted(place)}: {text}")


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array whose elements are all of one kind."""

    says: str
    item: Kind
    problem: Problem | None = None

    def check(self, value: Any, place: Place, notes: Notes) -> None:
        if not isinstance(value, list | tuple):
            _note_wrong_type(self.says, value, place, notes)
            return
        before = len(notes.issues)
        for index, element in enumerate(value):
            self.item.check(element, (*place, index), notes)
        if self.problem is None or len(notes.issues) > before:
            return
        text = self.problem(value)
        if text is not None:
            notes.add("bad_value", place, f"{dotted(place)}: {text}")


@dataclass(frozen=True, slots=True)
class TableOf:
    """A table with the given keys; None allows any keys."""

    says: str
    keys: Mapping[str, Key] | None = None

    def check(self, value: Any, place: Place, notes: Notes) -> None:
        if not isinstance(value, Mapping):
            _note_wrong_type(self.says, value, place, notes)
            return
        if self.keys is not None:
            check_keys(value, self.keys, place, notes)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A value of one of several types."""

    says: str
    types: tuple[type, ...]

    def check(self, value: Any, place: Place, notes: Notes) -> None:
        if type(value) not in self.types:
            _note_wrong_type(self.says, value, place, notes)


def check_keys(
    values: Mapping[Any, Any], keys: Mapping[str, Key], place: Place, notes: Notes
) -> None:
    """Check every key of a table, and that none is unknown or missing."""
    for name, value in values.items():
        key = keys.get(name)
        if key is None:
            note_unknown(str(name), keys, place, notes)
        else:
            key.kind.check(value, (*place, name), notes)
    for name, key in keys.items():
        if key.required and name not in values:
            notes.add("missing_key", place, f"{dotted((*place, name))} is missing: {key.about}")


def right_values(values: Mapping[Any, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    """Return the entries of a table whose keys are known and in whose values nothing is wrong."""
    right = {}
    for name, value in values.items():
        notes = Notes()
        check_keys({name: value}, {name: keys[name]} if name in keys else {}, (), notes)
        if not notes.has_errors:
            right[name] = value
    return right


def note_unknown(name: str, known: Iterable[str], place: Place, notes: Notes) -> None:
    """Add an issue about an unknown key, and suggest the known key most like it."""
    notes.add(
        "unknown_key",
        (*place, name),
        f"unknown key {shown(name)} in {dotted(place) or 'the file'}",
        hint=suggestion(name, known),
    )


def suggestion(name: str, known: Iterable[str]) -> str | None:
    """Return ``did you mean …?`` with the known name that is most like ``name``, if any."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else None


def shown(value: Any) -> str:
    """Return a value as messages show it: quoted, and never longer than a line."""
    try:
        return shortened(repr(value))
    except ValueError:  # Python does not write huge integers; TOML may, in hexadecimal
        return "a number of thousands of digits"


def shortened(text: str) -> str:
    """Return a text truncated to at most a line."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def dotted(place: Place) -> str:
    """Return a place as people write it: ``rule.threat[0].tactic``."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else str(part)
    return text


def _note_wrong_type(says: str, value: Any, place: Place, notes: Notes) -> None:
    notes.add("wrong_type", place, f"{dotted(place)} must be {says}, not {shown(value)}")
