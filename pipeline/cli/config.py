"""`firstseen config`: the settings, their sources, and whether they can work."""

from __future__ import annotations

import click

from pipeline.cli.lazy import SuggestingGroup
from pipeline.cli.options import SettingsFlags, json_option, settings_options
from pipeline.cli.output import table, write_json
from pipeline.config import Settings
from pipeline.errors import SettingsError


@click.group(cls=SuggestingGroup)
def config() -> None:
    """Show and check the settings.

    The first source that has a setting wins: a flag, the environment (FIRSTSEEN_SECTION__NAME), a
    YAML file, the default.

    \b
    Examples:
      firstseen config show
      firstseen config check --config firstseen.yml
    """


@config.command()
@settings_options
@click.option("--changed", is_flag=True, help="Only settings that are not at their default.")
@json_option
def show(settings_flags: SettingsFlags, changed: bool, as_json: bool) -> None:
    """Show every setting with its value and where it comes from; secrets are masked."""
    settings = settings_flags.load()
    rows = [row for row in settings.describe() if not (changed and row.source == "default")]
    if as_json:
        write_json([row._asdict() for row in rows])
        return
    table(("KEY", "VALUE", "FROM"), [(row.key, row.value, row.source) for row in rows])


@config.command()
@settings_options
def check(settings_flags: SettingsFlags) -> None:
    """Check the settings without starting anything; exit 3 if something is wrong.

    Files of rules and field types must exist; `firstseen rules check` checks their contents.
    """
    settings = settings_flags.load()
    named = [*settings.rules.paths, *filter(None, [settings.rules.fields])]
    missing = [str(path) for path in named if not path.exists()]
    if missing:
        raise SettingsError(f"rules.paths, rules.fields: there is no {', '.join(missing)}")
    click.echo("the settings are fine", err=True)


@config.command()
@json_option
def env(as_json: bool) -> None:
    """List every environment variable with its type, default and meaning."""
    specs = Settings.specs()
    if as_json:
        write_json([spec._asdict() for spec in specs])
        return
    table(
        ("VARIABLE", "TYPE", "DEFAULT", "MEANING"),
        [(spec.env, spec.type, spec.default, spec.description) for spec in specs],
    )
