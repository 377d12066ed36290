"""The pages on the command line say what the commands do."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from pipeline import errors
from pipeline.cli import exits
from tests.docs.cli_reference import PAGE, commands, render

EXIT_CODES = (Path(PAGE).parent / "exit-codes.md").read_text(encoding="utf-8")
RUN = [path for path, command, _ in commands() if not isinstance(command, click.Group)]


def table_rows(title: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    section = EXIT_CODES.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_reference_is_the_help_of_the_commands():
    """When this fails: python -m tests.docs.cli_reference, and look at the difference."""
    assert PAGE.read_text(encoding="utf-8") == render()


def test_every_exit_code_is_documented():
    documented = {int(row[0]) for row in table_rows("Codes")}
    ours = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    theirs = {value for name, value in vars(exits).items() if name.startswith("EXIT_")}

    assert documented == ours | theirs | {128 + 15}


def test_every_command_has_its_row():
    assert [row[0].strip("`") for row in table_rows("By command")] == RUN


@pytest.mark.parametrize("row", table_rows("By command"), ids=lambda row: row[0].strip("`"))
def test_a_command_that_can_fail_says_with_what(row):
    codes = {int(code) for cell in row[1:] for code in re.findall(r"`(\d+)`", cell)}

    assert codes <= {int(code[0]) for code in table_rows("Codes")}


@pytest.mark.parametrize("path", RUN)
def test_settings_of_a_command_mean_that_it_can_end_with_a_configuration_error(path):
    takes_settings = (
        "--config FILE"
        in PAGE.read_text(encoding="utf-8").partition(f"## {path}\n")[2].partition("\n## ")[0]
    )
    row = next(row for row in table_rows("By command") if row[0] == f"`{path}`")

    assert not takes_settings or "`3`" in " ".join(row)
