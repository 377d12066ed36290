"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.config import Settings

_F = TypeVar("_F", bound=Callable[..., Any])

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
EXISTING_PATH = click.Path(exists=True, path_type=Path)
EVENTS_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)

rules_option = click.option(
    "--rules",
    "rule_paths",
    multiple=True,
    metavar="PATH",
    type=EXISTING_PATH,
    help="Rule file or folder of rule files; may be repeated. Default: the built-in rules.",
)
fields_option = click.option(
    "--fields",
    "fields_file",
    metavar="FILE",
    type=EXISTING_FILE,
    help="JSON file with the types of fields that are not built in: "
    '{"name": "keyword"} or {"name": {"type": ..., "multi_fields": {...}}}.',
)
json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


class _Assignment(click.ParamType):
    """A parameter of the form ``KEY=VALUE``."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        key, equals, text = str(value).partition("=")
        if not equals or not key.strip():
            # The rest is not shown: it may be a password with a mistyped sign before it.
            begin = re.split(r"[^\w.]", str(value), maxsplit=1)[0]
            self.fail(f"{begin!r}… is not KEY=VALUE, like kafka.group_id=firstseen", param, ctx)
        return key.strip(), text


class SettingsFlags:
    """What the flags of a command say about the settings; read only when the command asks."""

    def __init__(self, config_file: Path | None, assignments: tuple[tuple[str, str], ...]) -> None:
        self._config_file = config_file
        self._assignments = assignments

    def load(self, **overrides: object) -> Settings:
        """Merge flags, environment, file and defaults.

        Args:
            overrides: values of a command's own flags, by key with ``__`` for the dot
                (``kafka__group_id``); None for a flag that was not used.

        Raises:
            SettingsError: a setting is wrong.
        """
        from pipeline.config import Settings  # noqa: PLC0415  (pydantic, only where it is needed)
        from pipeline.telemetry import logging  # noqa: PLC0415

        given = {key.replace("__", "."): value for key, value in overrides.items()}
        used = {key: value for key, value in given.items() if value is not None}
        flags = {**dict(self._assignments), **used}
        try:
            settings = Settings.load(self._config_file, flags)
        except SettingsError:
            logging.configure(Settings.load_log(self._config_file, flags))  # to log this error
            raise
        # Otherwise a warning (that a login is not encrypted) would end up in the command's output.
        logging.configure(settings.log)
        return settings


def settings_options(command: _F) -> _F:
    """Add ``--config`` and ``--set``; the command gets `SettingsFlags` as ``settings_flags``."""

    def with_flags(
        *, config_file: Path | None, assignments: tuple[tuple[str, str], ...], **arguments: Any
    ) -> Any:
        return command(settings_flags=SettingsFlags(config_file, assignments), **arguments)

    wrapped = update_wrapper(with_flags, command)
    wrapped = click.option(
        "--set",
        "assignments",
        multiple=True,
        type=_Assignment(),
        metavar="KEY=VALUE",
        help="Override one setting from file or environment; may be repeated. "
        "`firstseen config show` lists the keys. Secrets are refused: set them in the "
        "environment or a file.",
    )(wrapped)
    return click.option(  # type: ignore[return-value]
        "--config",
        "config_file",
        metavar="FILE",
        type=EXISTING_FILE,
        help="YAML file with settings; default: the one that FIRSTSEEN_CONFIG names.",
    )(wrapped)
