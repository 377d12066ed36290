"""The command as a whole: fast help, every command described, typos answered."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from pipeline import __version__
from pipeline.cli.root import COMMANDS, firstseen

HEAVY = {
    *("ahocorasick_rs", "aiokafka", "confluent_kafka", "faust", "hyperscan", "mode", "msgspec"),
    *("orjson", "prometheus_client", "pydantic", "rich", "rocksdict", "structlog", "yaml"),
    "zstandard",
}


def all_commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, groups included."""
    context = click.Context(firstseen, info_name="firstseen")
    waiting: list[tuple[str, click.Command]] = [("firstseen", firstseen)]
    while waiting:
        name, command = waiting.pop(0)
        yield name, command
        if isinstance(command, click.Group):
            waiting += [
                (f"{name} {sub}", command.get_command(context, sub))
                for sub in command.list_commands(context)
            ]


NAMED = dict(all_commands())


def test_help_imports_no_heavy_library():
    program = (
        "import sys; sys.argv = ['firstseen', '--help']\n"
        "from pipeline.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    imported = {name.split(".")[0].strip("'") for name in done.stderr.strip("[]\n").split(", ")}
    assert imported & HEAVY == set()
    assert "Commands:" in done.stdout


def test_the_commands_are_those_that_scripts_depend_on():
    expected = [
        *("firstseen", "firstseen demo", "firstseen worker", "firstseen replay"),
        *("firstseen match", "firstseen query", "firstseen rules", "firstseen topics"),
        *("firstseen alerts", "firstseen history", "firstseen dead-letters", "firstseen config"),
        *("firstseen metrics", "firstseen query check", "firstseen query match"),
        *("firstseen query explain", "firstseen rules list", "firstseen rules check"),
        *("firstseen rules test", "firstseen rules show", "firstseen topics plan"),
        *("firstseen topics apply", "firstseen topics render", "firstseen alerts tail"),
        *("firstseen history list", "firstseen history export", "firstseen history import"),
        *("firstseen history forget", "firstseen history backfill", "firstseen dead-letters list"),
        *("firstseen dead-letters show", "firstseen dead-letters requeue", "firstseen config show"),
        *("firstseen config check", "firstseen config env", "firstseen metrics list"),
    ]
    assert list(NAMED) == expected


@pytest.mark.parametrize("name", NAMED)
def test_every_command_and_option_says_what_it_does(name):
    command = NAMED[name]

    assert command.help
    silent = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert silent == []


@pytest.mark.parametrize("name", [name for name in NAMED if isinstance(NAMED[name], click.Group)])
def test_the_help_of_a_group_shows_examples(name):
    assert "Example" in (NAMED[name].help or "")


def test_a_lazy_command_has_the_name_it_is_listed_under():
    context = click.Context(firstseen)

    names = {name: firstseen.get_command(context, name).name for name in COMMANDS}
    assert names == {name: name for name in COMMANDS}


def test_the_version_is_the_package_s(run):
    result = run("--version")

    assert (result.exit_code, result.stdout) == (0, f"firstseen {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["replya"], "'replay'"),
        (["rules", "checks"], "'check'"),
        (["replay", "--rule", "x", "-"], "--rules"),
    ],
)
def test_a_typo_is_answered_with_what_was_meant(run, arguments, meant):
    result = run(*arguments)

    assert result.exit_code == 2
    assert meant in result.stderr


@pytest.mark.parametrize("when", ["999999d", "yesterday"])
def test_a_moment_that_is_none_is_a_usage_error(run, when):
    result = run("dead-letters", "list", "--since", when)

    assert result.exit_code == 2
    assert f"Invalid value for '--since': '{when}' is" in result.stderr


def test_a_name_like_no_other_gets_no_guess(run):
    result = run("xyzzy")

    assert result.exit_code == 2
    assert result.stderr.endswith("Error: No such command 'xyzzy'.\n")


def test_the_module_is_the_command(start):
    out, _ = start("--version").communicate()

    assert out == f"firstseen {__version__}\n".encode()


def test_the_shell_gets_completions(start):

    env = {
        **os.environ,
        "_FIRSTSEEN_COMPLETE": "bash_complete",
        "COMP_WORDS": "firstseen re",
        "COMP_CWORD": "1",
    }
    out, _ = start(env=env).communicate()

    assert out == b"plain,replay\n"
