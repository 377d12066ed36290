"""What the pages name is there: files, classes and constants of our modules, and members of our classes."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "pipeline").rglob("*.py"))
    if path.name != "__main__.py"
]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@every_page
def test_a_file_that_a_page_names_is_there(page: Path):
    named = re.findall(r"`((?:pipeline|tests|native|deploy|topics)/[\w/.-]+)`", page.read_text())

    assert [name for name in named if not (ROOT / name).exists()] == []


@every_page
def test_a_name_in_a_module_of_ours_is_there(page: Path):
    named = re.findall(r"`((?:\w+\.)*\w+)\.(_?[A-Z]\w+)(?:\.\w+)?`", page.read_text())
    missing = [
        f"{module}.{name}"
        for module, name in named
        if (found := _modules(module)) and not any(hasattr(each, name) for each in found)
    ]

    assert missing == []


@every_page
def test_a_member_of_a_class_of_ours_is_there(page: Path):
    named = re.findall(r"`((?:\w+\.)*)([A-Z]\w+)\.(\w+)`", page.read_text())
    missing = [
        f"{name}.{member}"
        for module, name, member in named
        if (meant := _classes(module.rstrip("."), name))
        and not any(hasattr(each, member) for each in meant)
    ]

    assert missing == []


def _classes(module: str, name: str) -> list[type]:
    """The classes of ours that may be meant; none for another's."""
    modules = _modules(module) if module else map(importlib.import_module, MODULES)
    found = [getattr(each, name, None) for each in modules]
    return [each for each in found if isinstance(each, type)]


def _modules(name: str) -> list[object]:
    """The modules of ours that may be meant by the end of a dotted name; none for another's."""
    meant = [each for each in MODULES if f".{each}".endswith(f".{name}")]
    return [importlib.import_module(each) for each in meant]
