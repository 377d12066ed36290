"""How firstseen is installed where it is measured: as in its image, with `firstseen-native`.

`uv run` alone does not install that, since it needs a Rust compiler. Where there is one, the worker
gets an environment of its own: the same interpreter, the versions of the lock, the code of this
tree, and `firstseen-native` built from native/.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from pipeline.assembly import native
from tests.benchmarks.command import Say
from tests.benchmarks.environments import FOLDER, ROOT, environment, install
from tests.benchmarks.measurement import UnavailableError

_BUILD_SECONDS = 900.0
_PACKAGE = "firstseen-native"


@dataclass(frozen=True)
class Installation:
    """Which firstseen is measured.

    Attributes:
        python: the interpreter of the worker and of firstseen's other commands.
        native: whether they use `firstseen-native`.
    """

    python: str
    native: bool

    @classmethod
    def running(cls) -> Installation:
        """The one that this program runs in."""
        return cls(sys.executable, find_spec(native.MODULE) is not None)

    @property
    def settings(self) -> dict[str, str]:
        """Environment variables of firstseen that hold it to `native`.

        With them, what the results say of it is true: a worker that has to use it, and cannot,
        does not start.
        """
        return {"FIRSTSEEN_STREAM__NATIVE": "on" if self.native else "off"}


def installation_to_measure(
    say: Say,
    *,
    without_native: bool,
    running: Installation | None = None,
    find: Callable[[str], str | None] = shutil.which,
    made: Callable[[Say], str] | None = None,
) -> Installation:
    """Return the installation that is like the image, as far as this machine has what that takes.

    Args:
        say: told why it is another one, and when making it begins.
        without_native: whether it is to be the one without `firstseen-native`; none is made then.
        running: the one that this program runs in, by default.
        find: finds a program.
        made: returns the interpreter of an environment that has `firstseen-native`;
            `native_environment` by default.
    """
    running = running or Installation.running()
    if without_native:
        return replace(running, native=False)
    if running.native:
        return running
    missing = [name for name in ("cargo", "uv") if find(name) is None]
    if missing:
        say(
            f"firstseen-native is not installed, and there is no {' and no '.join(missing)} "
            "to build it: measured without it"
        )
        return running
    try:
        return Installation((made or native_environment)(say), native=True)
    except UnavailableError as error:
        say(f"firstseen-native is not installed and cannot be built: measured without it: {error}")
        return running


def native_environment(
    say: Say,
    *,
    root: Path = ROOT,
    folder: Path = FOLDER / ".venv-native",
    run: Callable[..., None] = install,
) -> str:
    """Return the interpreter of an environment that has `firstseen-native`.

    It is made when it is first needed, and anew with another interpreter, lock or native/.

    Args:
        say: told that it is made, as that takes a minute or two.
        root: of the project.
        folder: where the environment is.
        run: runs a command, as `install` does.

    Raises:
        UnavailableError: it cannot be made.
    """

    def make() -> None:
        say("making an environment with firstseen-native, which takes a minute or two")
        python = str(folder / "bin" / "python")
        run(["uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        # Both cargo and uv tell by the times of files what to build anew, and an older file may be
        # another one: neither is asked.
        crate = str(root / "native" / "Cargo.toml")
        run(["cargo", "clean", "--release", "--manifest-path", crate, "-p", _PACKAGE])
        run(
            [
                *("uv", "sync", "--quiet", "--locked", "--project", str(root), "--python", python),
                *("--no-default-groups", "--extra", "native", "--reinstall-package", _PACKAGE),
            ],
            variables={"UV_PROJECT_ENVIRONMENT": str(folder)},
            seconds=_BUILD_SECONDS,
        )
        run([python, "-c", f"import {native.MODULE}"])

    return environment(folder, _contents(root), make)


def _contents(root: Path) -> str:
    """Return what tells one state of the environment from another."""
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()} {file.relative_to(root)}"
        for file in (root / "uv.lock", *sorted(_sources(root / "native")))
    ]
    return "\n".join([f"# {sys.version}", *lines, ""])


def _sources(crate: Path) -> Iterator[Path]:
    """Yield the files of the crate, without what was built of them."""
    for entry in crate.iterdir():
        if entry.name != "target":
            yield from (file for file in (entry, *entry.rglob("*")) if file.is_file())
