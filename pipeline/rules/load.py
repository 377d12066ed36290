"""Loads rules, and exceptions to them, from files and folders. No bad file hides the others."""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.rules.draft import draft_of
from pipeline.rules.exceptions import missing_lists, unknown_rules, with_exceptions
from pipeline.rules.issues import Issue
from pipeline.rules.locate import MAX_KEY_PARTS, TomlSource
from pipeline.rules.model import ExceptionItem, Rule
from pipeline.rules.parse import parse_rule
from pipeline.rules.parse_exceptions import holds_exceptions, parse_exceptions

MAX_FILE_BYTES = 1_048_576
"""The maximum size of a rule file: the largest public one has about 40 KB."""

_ERROR_LINE = re.compile(r" \(at line (\d+), column \d+\)$")
# What tomllib says about a key or table that is defined twice.
_OF_A_DUPLICATE = ("overwrite", "twice", "Duplicate", "mutate")


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What was found in rule files.

    Attributes:
        rules: the usable rules, in the order of their files, with the exceptions to them.
        issues: all issues.
        drafts: what can be compiled, for its issues only, of the rules that are not usable; see
            `RuleSet.compile`.
    """

    rules: tuple[Rule, ...] = ()
    issues: tuple[Issue, ...] = ()
    drafts: tuple[Rule, ...] = ()


def builtin_path() -> Path:
    """Return the folder of the rules that come with firstseen."""
    return Path(__file__).parent / "builtin"


def load_rules(paths: Sequence[Path] | None = None) -> LoadResult:
    """Read rules.

    Args:
        paths: rule files, and folders that are searched for ``*.toml`` at any depth. Links are
            followed; hidden files and folders are skipped. The order is that of the paths given,
            and alphabetical inside a folder. None, or no path at all, means the rules that come
            with firstseen; so do paths with nothing but exceptions.

    Returns:
        Every rule without an error, and every issue. Nothing that a file contains makes this raise.
        If two rules have the same id, the first one is kept.
    """
    files = [_load_file(found) for found in _rule_files(paths or (builtin_path(),))]
    if files and all(file.holds_exceptions for file in files):
        files += [_load_file(found) for found in _rule_files((builtin_path(),))]
    rules: dict[str, Rule] = {}
    issues: list[Issue] = []
    for file in files:
        issues.extend(file.issues)
        if file.rule is not None:
            first = rules.setdefault(file.rule.rule_id, file.rule)
            if first is not file.rule:
                issues.append(_duplicate_id(file.rule, first))
    drafts = tuple(file.draft for file in files if file.draft is not None)
    exceptions = [item for file in files for item in file.exceptions]
    known = dict.fromkeys([*rules, *(draft.rule_id for draft in drafts)])
    issues.extend(unknown_rules(exceptions, known))
    narrowed = with_exceptions(rules.values(), exceptions)
    issues.extend(missing_lists(narrowed))
    return LoadResult(narrowed, tuple(issues), drafts)


def _rule_files(paths: Sequence[Path]) -> Iterator[Path | Issue]:
    """Yield each rule file once, and an issue for each path without any."""
    seen: set[Path] = set()
    for path in paths:
        files = list(_files_of(path))
        if not files:
            yield Issue("no_rules", "error", "the folder holds no *.toml file", path)
        for file in files:
            if isinstance(file, Issue):
                yield file
            elif (resolved := file.resolve()) not in seen:
                seen.add(resolved)
                yield file


def _files_of(path: Path) -> Iterator[Path | Issue]:
    """Yield the file itself, or the files in a folder; whatever cannot be read is an issue."""
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        yield _unreadable(path, error)
        return
    if is_folder:
        yield from _files_in(path, set())
    else:
        yield path


def _files_in(folder: Path, entered: set[Path]) -> Iterator[Path | Issue]:
    """Yield the rule files in a folder by name, at any depth; follow links, each folder once."""
    real = folder.resolve()
    if real in entered:
        return
    entered.add(real)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield _unreadable(folder, error)
        return
    for entry in entries:
        # Hidden entries: editors' lock files, `.git`, and `..data`, which holds the targets of the
        # links that a Kubernetes volume consists of.
        if entry.name.startswith("."):
            continue
        try:
            mode = entry.stat().st_mode
        except OSError as error:  # a broken link, or a circle of links
            if entry.suffix in {"", ".toml"}:  # it may have led to a folder
                yield _unreadable(entry, error)
            continue
        if stat.S_ISDIR(mode):
            yield from _files_in(entry, entered)
        elif entry.suffix == ".toml" and stat.S_ISREG(mode):
            yield entry


def _unreadable(path: Path, error: OSError) -> Issue:
    return Issue("unreadable", "error", f"cannot read: {error.strerror}", path)


@dataclass(frozen=True, slots=True)
class _File:
    """What one file holds: a rule, or the draft of one with errors, or exceptions.

    Attributes:
        holds_exceptions: whether it is a file of exceptions, be they usable or not.
    """

    rule: Rule | None = None
    draft: Rule | None = None
    exceptions: tuple[ExceptionItem, ...] = ()
    holds_exceptions: bool = False
    issues: tuple[Issue, ...] = ()


def _load_file(path: Path | Issue) -> _File:
    if isinstance(path, Issue):
        return _File(issues=(path,))
    text = _read(path)
    if isinstance(text, Issue):
        return _File(issues=(text,))
    source = TomlSource(text)
    document = _document(source, text, path)
    if isinstance(document, Issue):
        return _File(issues=(document,))
    if holds_exceptions(document):
        exceptions, issues = parse_exceptions(document, path=path, source=source)
        return _File(exceptions=exceptions, holds_exceptions=True, issues=issues)
    rule, issues = parse_rule(document, path=path, source=source)
    draft = draft_of(document, path=path, source=source) if rule is None else None
    return _File(rule, draft, issues=issues)


def _document(source: TomlSource, text: str, path: Path) -> dict[str, Any] | Issue:
    # tomllib takes time quadratic in the number of a key's parts: an hour for a file of one key.
    line = source.long_key_line()
    if line is not None:
        message = f"a key of more than {MAX_KEY_PARTS} parts"
        return Issue("toml_syntax", "error", message, path, line)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return _syntax_issue(error, source, path)
    except RecursionError:
        return Issue("toml_syntax", "error", "arrays are nested too deep", path, 1)
    except ValueError:  # from Python's int()
        return Issue("toml_syntax", "error", "holds a number of thousands of digits", path, 1)


def _read(path: Path) -> str | Issue:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return _unreadable(path, error)
    if len(data) > MAX_FILE_BYTES:
        return Issue("too_large", "error", f"is larger than {MAX_FILE_BYTES} bytes", path)
    try:
        # Editors on Windows write a byte order mark, which TOML does not allow.
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Issue("unreadable", "error", f"is not UTF-8: {error.reason}", path, line)


def _syntax_issue(error: tomllib.TOMLDecodeError, source: TomlSource, path: Path) -> Issue:
    text = str(error)
    if any(word in text for word in _OF_A_DUPLICATE):
        twice = source.duplicate()
        if twice is not None:
            message = f"{twice.name} stands twice, first in line {twice.first_line}"
            return Issue("duplicate_key", "error", message, path, twice.line)
    found = _ERROR_LINE.search(text)
    line = int(found[1]) if found else source.text.count("\n") + 1
    return Issue("toml_syntax", "error", _ERROR_LINE.sub("", text), path, line)


def _duplicate_id(rule: Rule, first: Rule) -> Issue:
    line = rule.source.line(("rule", "rule_id")) if rule.source is not None else None
    return Issue(
        "duplicate_rule_id",
        "error",
        f"rule_id {rule.rule_id} is taken by {first.path}: this one is not used",
        rule.path,
        line,
        rule.rule_id,
    )
