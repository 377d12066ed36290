"""Which firstseen is measured, when its environment is made anew, and what is said of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pipeline.assembly.native import uses_native
from pipeline.config import Settings
from pipeline.errors import ConfigError
from tests.benchmarks.__main__ import Run
from tests.benchmarks.cases import QUICK
from tests.benchmarks.environments import environment, install
from tests.benchmarks.firstseen import FIRSTSEEN, FIRSTSEEN_PYTHON
from tests.benchmarks.ground import Ground
from tests.benchmarks.installation import (
    Installation,
    installation_to_measure,
    native_environment,
)
from tests.benchmarks.machine import Placement
from tests.benchmarks.measurement import UnavailableError
from tests.brokers import ApacheKafka

WITH = Installation("/with/bin/python", native=True)
WITHOUT = Installation("/without/bin/python", native=False)
MADE = "/made/bin/python"


class Machine:
    """A machine that has some programs; notes what is said, and how often an environment was made."""

    def __init__(self, *programs: str, failure: str | None = None) -> None:
        self._programs = programs
        self._failure = failure
        self.said: list[str] = []
        self.made = 0

    def choose(self, running: Installation, *, without_native: bool = False) -> Installation:
        return installation_to_measure(
            self.said.append,
            without_native=without_native,
            running=running,
            find=lambda name: f"/bin/{name}" if name in self._programs else None,
            made=self._make,
        )

    def _make(self, _: Callable[[str], None]) -> str:
        self.made += 1
        if self._failure is not None:
            raise UnavailableError(self._failure)
        return MADE


def test_where_native_code_is_installed_nothing_is_made() -> None:
    machine = Machine("cargo", "uv")

    assert machine.choose(WITH) == WITH
    assert (machine.made, machine.said) == (0, [])


def test_where_it_is_not_an_environment_that_has_it_is_made() -> None:
    machine = Machine("cargo", "uv")

    assert machine.choose(WITHOUT) == Installation(MADE, native=True)
    assert (machine.made, machine.said) == (1, [])


@pytest.mark.parametrize(
    ("programs", "missing"),
    [(["uv"], "no cargo"), (["cargo"], "no uv"), ([], "no cargo and no uv")],
)
def test_what_is_missing_to_build_it_is_told(programs: list[str], missing: str) -> None:
    machine = Machine(*programs)

    assert machine.choose(WITHOUT) == WITHOUT
    assert machine.made == 0
    assert machine.said == [
        f"firstseen-native is not installed, and there is {missing} to build it: measured without it"
    ]


def test_a_build_that_fails_is_told_and_the_run_goes_on_without_it() -> None:
    machine = Machine("cargo", "uv", failure="error: no such crate")

    assert machine.choose(WITHOUT) == WITHOUT
    (said,) = machine.said
    assert "measured without it: error: no such crate" in said


@pytest.mark.parametrize("running", [WITH, WITHOUT])
def test_whoever_asks_for_python_alone_gets_it(running: Installation) -> None:
    machine = Machine("cargo", "uv")

    chosen = machine.choose(running, without_native=True)

    assert chosen == Installation(running.python, native=False)
    assert (machine.made, machine.said) == (0, [])


def test_a_worker_that_cannot_do_what_the_results_say_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.assembly.native.find_spec", lambda _: None)

    with pytest.raises(ConfigError):
        uses_native(Settings.load(environ=WITH.settings))


def test_a_worker_that_is_measured_without_native_code_does_not_use_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.assembly.native.find_spec", lambda _: object())

    assert not uses_native(Settings.load(environ=WITHOUT.settings))


# -- the environment


class Tree:
    """A project with a crate, and an environment that is made of it, by commands that are noted."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "project"
        self.folder = directory / ".venv-native"
        self.write("uv.lock", "versions")
        self.write("native/Cargo.toml", "crate")
        self.write("native/src/lib.rs", "code")
        self.commands: list[Sequence[str]] = []
        self.variables: dict[str, str] = {}
        self.said: list[str] = []
        self.fails_at: str | None = None

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def made(self) -> bool:
        """Ask for the interpreter; return whether the environment was made for that."""
        self.commands.clear()
        python = native_environment(
            self.said.append, root=self.root, folder=self.folder, run=self._run
        )
        assert python == str(self.folder / "bin" / "python")
        return bool(self.commands)

    def _run(
        self,
        command: Sequence[str],
        *,
        variables: Mapping[str, str] | None = None,
        seconds: float = 0.0,
    ) -> None:
        self.commands.append(command)
        self.variables |= variables or {}
        if self.fails_at in command:
            raise UnavailableError("it failed")
        if "venv" in command:
            python = self.folder / "bin" / "python"
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_an_environment_is_made_once(tree: Tree) -> None:
    assert [tree.made(), tree.made()] == [True, False]
    assert len(tree.said) == 1


def test_it_has_this_interpreter_the_locked_versions_and_native_code_that_was_tried(
    tree: Tree,
) -> None:
    tree.made()

    python = str(tree.folder / "bin" / "python")
    venv, clean, sync, tried = tree.commands
    assert venv[-3:] == ["--python", sys.executable, str(tree.folder)]
    assert {"clean", "firstseen-native"} <= set(clean)
    assert {"--locked", "--extra", "native", "--reinstall-package"} <= set(sync)
    assert tree.variables == {"UV_PROJECT_ENVIRONMENT": str(tree.folder)}
    assert tried == [python, "-c", "import firstseen_native"]


@pytest.mark.parametrize(
    "name", ["uv.lock", "native/Cargo.toml", "native/src/lib.rs", "native/src/new.rs"]
)
def test_it_is_made_anew_when_what_it_is_made_of_has_changed(tree: Tree, name: str) -> None:
    tree.made()
    tree.write(name, "changed")

    assert [tree.made(), tree.made()] == [True, False]


def test_it_is_made_anew_when_a_source_is_gone(tree: Tree) -> None:
    tree.made()
    (tree.root / "native/src/lib.rs").unlink()

    assert tree.made()


def test_it_is_made_anew_for_another_interpreter(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.made()
    monkeypatch.setattr(sys, "version", "3.99.0")

    assert tree.made()


def test_it_is_made_anew_when_its_interpreter_is_gone(tree: Tree) -> None:
    tree.made()
    (tree.folder / "bin" / "python").unlink()

    assert tree.made()


def test_what_was_built_and_the_code_of_the_worker_are_no_reason(tree: Tree) -> None:
    tree.made()
    tree.write("native/target/release/lib.so", "built")
    tree.write("pipeline/cli.py", "changed")

    assert not tree.made()


@pytest.mark.parametrize("step", ["venv", "clean", "sync", "import firstseen_native"])
def test_what_was_left_half_made_is_made_anew(tree: Tree, step: str) -> None:
    tree.made()
    tree.write("uv.lock", "other versions")
    tree.fails_at = step
    with pytest.raises(UnavailableError):
        tree.made()
    tree.fails_at = None
    tree.write("uv.lock", "versions")  # as the first one had them

    assert tree.made()


def test_an_environment_that_holds_what_is_wanted_is_not_made(tmp_path: Path) -> None:
    def make() -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python").touch()

    def never() -> None:
        raise AssertionError("made again")

    assert environment(tmp_path, "a", make) == environment(tmp_path, "a", never)
    with pytest.raises(AssertionError, match="made again"):
        environment(tmp_path, "b", never)


# -- commands that install


def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(UnavailableError, match=r"failed: no more room"):
        install(["sh", "-c", "echo no more room >&2; exit 3"])


def test_a_command_has_its_variables_and_those_of_the_machine() -> None:
    install(["sh", "-c", 'test "$WANTED" = yes && test -n "$PATH"'], variables={"WANTED": "yes"})


def test_what_a_command_has_started_ends_with_it_when_it_takes_too_long(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(UnavailableError, match="took too long"):
        install(["sh", "-c", f"sleep 60 & echo $! >{pid}; wait"], seconds=1.0)

    deadline = time.monotonic() + 10
    while _runs(int(pid.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Killed, and not reaped by whoever does that here.
    return ") Z " not in Path(f"/proc/{pid}/stat").read_text()


# -- who uses it


@pytest.fixture
def echo(tmp_path: Path) -> str:
    """An interpreter that says what it was asked to run."""
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\necho "ran $*, native $FIRSTSEEN_STREAM__NATIVE"\n')
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize("native", [True, False])
def test_every_process_of_firstseen_is_of_the_installation(
    echo: str, native: bool, tmp_path: Path
) -> None:
    ground = Ground(
        cast("ApacheKafka", SimpleNamespace(bootstrap="nowhere:1")),
        Placement.of_this_machine(),
        tmp_path,
        Installation(echo, native=native),
        deadline=time.monotonic() + 60,
    )
    word = "on" if native else "off"

    with FIRSTSEEN.deployed(ground, "topic") as deployment:
        command = deployment.command("topics", "apply").stdout
        (worker,) = FIRSTSEEN.start(ground, deployment)
        worker.process.wait(30)
        log = worker.tail()
    with FIRSTSEEN_PYTHON.deployed(ground, "topic") as deployment:
        python_alone = deployment.command("topics", "apply").stdout

    assert command == f"ran -m pipeline topics apply, native {word}\n"
    assert log == f"ran -m pipeline worker, native {word}"
    assert python_alone == "ran -m pipeline topics apply, native off\n"


@pytest.mark.parametrize(
    ("only", "measured"),
    [
        ([], True),
        (["main"], True),
        (["firstseen_rules_241"], True),
        (["kafka_streams", "firstseen"], True),
        (["kafka_streams", "state"], True),
        (["kafka_streams"], False),
        (["codecs", "quix_streams"], False),
    ],
)
def test_a_run_of_peers_alone_needs_no_installation(only: list[str], measured: bool) -> None:
    assert Run(QUICK, frozenset(only)).measures_firstseen is measured
