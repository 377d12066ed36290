from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

from pipeline.config import Settings


@pytest.fixture
def dockerfile(root: Path) -> str:
    return (root / "Dockerfile").read_text()


def test_hadolint_finds_nothing(run_tool):
    done = run_tool("hadolint", "Dockerfile")

    assert (done.returncode, done.stdout) == (0, "")


def _copied(dockerfile: str) -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_everything_copied_exists_and_is_let_through(dockerfile, root):
    ignore = (root / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignore if line.startswith("!")}

    assert ignore[1] == "*"
    assert {source for source in _copied(dockerfile) if (root / source).exists()} == allowed


def test_everything_the_package_is_built_from_is_copied(dockerfile, root):
    project = tomllib.loads((root / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        *wheel["packages"],
        *wheel["force-include"],
        project["project"]["readme"],
        *project["project"]["license-files"],
    }

    assert needed <= set(_copied(dockerfile))


def test_it_runs_the_oldest_python_we_support_which_is_the_tested_one(dockerfile, root):
    project = tomllib.loads((root / "pyproject.toml").read_text())
    version = re.search(r"^ARG PYTHON=(.+)$", dockerfile, re.MULTILINE)

    assert version
    assert f">={version[1]}" == project["project"]["requires-python"]


def test_its_bytecode_is_compiled_when_it_is_built(dockerfile, root):
    """At run time nobody writes any, and each start would compile everything anew."""
    project = tomllib.loads((root / "pyproject.toml").read_text())

    assert "PYTHONDONTWRITEBYTECODE=1" in dockerfile
    assert project["tool"]["uv"]["compile-bytecode"] is True


def test_both_stages_have_the_same_base(dockerfile):
    bases = re.findall(r"^FROM (\S+) AS", dockerfile, re.MULTILINE)

    assert len(bases) == 2
    assert len(set(bases)) == 1


def test_the_user_is_a_number_and_not_root(dockerfile):
    users = re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE)

    assert [bool(re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)) for user in users] == [True]


def test_the_program_gets_the_stop_signal_itself(dockerfile):
    """The shell form would put a shell in front of it, which does not pass SIGTERM on."""
    assert 'ENTRYPOINT ["firstseen"]' in dockerfile
    assert 'CMD ["worker"]' in dockerfile


def test_its_settings_are_settings(dockerfile):
    names = set(re.findall(r"\bFIRSTSEEN_\w+(?==)", dockerfile))

    assert names == {"FIRSTSEEN_STATE__DIRECTORY"}
    assert names <= {spec.env for spec in Settings.specs()}


def test_the_health_check_asks_the_port_that_is_exposed(dockerfile):
    port = Settings().web.port

    assert f"EXPOSE {port}\n" in dockerfile
    assert f"http://127.0.0.1:{port}/healthz" in dockerfile


@pytest.mark.parametrize("name", [".git", ".venv", "tests", "docs", ".firstseen", "secrets.env"])
def test_nothing_else_gets_into_the_build(root, name):
    lines = (root / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]

    assert not any(fnmatch.fnmatch(name, pattern) for pattern in allowed)
