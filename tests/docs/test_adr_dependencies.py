"""Each dependency has its reason."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "adr" / "0001-dependencies.md").read_text(encoding="utf-8")


def test_the_table_of_dependencies_is_complete():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {
        re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in project["dependencies"]
    }

    assert required == set(re.findall(r"^\| `([\w.-]+)` \|", PAGE, re.MULTILINE))


def test_the_list_of_crates_is_complete():
    manifest = tomllib.loads((ROOT / "native" / "Cargo.toml").read_text(encoding="utf-8"))
    section = PAGE.partition("built from these crates")[2].partition("Left out on purpose")[0]
    listed = re.findall(r"^\* (`[^:]+):", section, re.MULTILINE)

    assert set(manifest["dependencies"]) == set(re.findall(r"`([\w-]+)`", " ".join(listed)))
