"""Each dependency has its reason."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_table_of_dependencies_is_complete():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {
        re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in project["dependencies"]
    }
    page = (ROOT / "docs" / "adr" / "0001-dependencies.md").read_text(encoding="utf-8")

    assert required == set(re.findall(r"^\| `([\w.-]+)` \|", page, re.MULTILINE))
