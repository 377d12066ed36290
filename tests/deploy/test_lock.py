"""Every dependency is one file of the registry, known by its hash."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOCK: dict[str, Any] = tomllib.loads((ROOT / "uv.lock").read_text())
HASH = re.compile(r"sha256:[0-9a-f]{64}")


def test_nothing_comes_from_a_place_that_can_change():
    sources = {
        package["name"]: package["source"]
        for package in LOCK["package"]
        if "registry" not in package["source"]
    }

    assert set(sources) == {"firstseen", "firstseen-native"}
    assert set(sources["firstseen"]) <= {"editable", "virtual"}
    assert sources["firstseen-native"] == {"directory": "native"}


def test_what_the_native_part_is_built_from_is_known_by_its_hash():
    crates = tomllib.loads((ROOT / "native" / "Cargo.lock").read_text())["package"]
    built = tomllib.loads((ROOT / "native" / "pyproject.toml").read_text())["tool"]["maturin"]

    assert [crate["name"] for crate in crates if "checksum" not in crate] == ["firstseen-native"]
    assert built["locked"] is True


def test_every_file_has_its_hash():
    without = [
        file["url"]
        for package in LOCK["package"]
        for file in (*package.get("wheels", ()), *filter(None, [package.get("sdist")]))
        if not HASH.fullmatch(file.get("hash", ""))
    ]

    assert without == []


def test_environments_of_users_and_of_ci_are_made_from_the_lock():
    image = re.findall(r"uv sync [^\n\\\\]*", (ROOT / "Dockerfile").read_text())
    ci = re.findall(r"uv sync[^\n]*", (ROOT / ".ci" / "run").read_text())

    assert image
    assert ci
    assert all("--locked" in line for line in (*image, *ci))
