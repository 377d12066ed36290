"""All settings of firstseen, merged from their sources and checked once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from pipeline.config.checks import Problem, find_problems
from pipeline.config.describe import MASK, SettingRow, SettingSpec, show, type_text
from pipeline.config.kafka import KafkaSettings
from pipeline.config.section import Section
from pipeline.config.sections import (
    AlertsSettings,
    DeadLettersSettings,
    LogSettings,
    RulesSettings,
    StateSettings,
    StreamSettings,
    TopicsSettings,
    WebSettings,
)
from pipeline.config.sources import (
    CONFIG_FILE_VARIABLE,
    Given,
    Layer,
    env_name,
    from_environment,
    from_file,
    from_overrides,
)
from pipeline.errors import SettingsError

_SHOWN_CHARACTERS = 200
_COMBINATION = "combination"
_USER_INFO = re.compile(r"[^\s,/:@]*:[^\s,]*@")


class Settings(Section):
    """All settings, frozen.

    Precedence: the command line, then the environment (``FIRSTSEEN_SECTION__NAME``), then the YAML
    file, then the default. Use `load`. The constructor takes defaults and finished sections, for
    tests.
    """

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicsSettings = TopicsSettings()
    rules: RulesSettings = RulesSettings()
    state: StateSettings = StateSettings()
    stream: StreamSettings = StreamSettings()
    alerts: AlertsSettings = AlertsSettings()
    dead_letters: DeadLettersSettings = DeadLettersSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if problems := find_problems(self):
            text = "; ".join(problem.text for problem in problems)
            raise PydanticCustomError(_COMBINATION, "{text}", {"text": text, "problems": problems})
        return self

    @classmethod
    def load(
        cls,
        config_file: Path | None = None,
        overrides: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Settings:
        """Merge all sources and check the result.

        Args:
            config_file: a YAML file of sections; by default, the one named by the variable
                FIRSTSEEN_CONFIG, if any.
            overrides: values from the command line by dotted key (``kafka.group_id``); None means
                that the flag was not used. Secrets are refused here.
            environ: the environment; by default, that of the process.

        Raises:
            SettingsError: with one line for each problem: what it is, the value (never that of a
                secret), its source, and what to do.
        """
        environ = os.environ if environ is None else environ
        file = _config_file(config_file, environ)
        layers = [
            from_file(file, _FIELDS) if file else Layer({}),
            from_environment(environ, _FIELDS),
            from_overrides(overrides or {}, _FIELDS, _SECRETS),
        ]
        problems = [problem for layer in layers for problem in layer.problems]
        given = _merge(layers, problems)
        settings = _build(given, problems)
        if settings is None or problems:
            raise SettingsError(_message(problems))
        return settings.remember(given)

    @classmethod
    def load_log(
        cls,
        config_file: Path | None = None,
        overrides: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> LogSettings:
        """Return the section `log` alone, so that what is wrong with the rest can be logged.

        A wrong value in it, and a file that cannot be read, count as not given. The arguments are
        those of `load`.
        """
        environ = os.environ if environ is None else environ
        file = _config_file(config_file, environ)
        layers = [from_environment(environ, _FIELDS), from_overrides(overrides or {}, _FIELDS, ())]
        with suppress(SettingsError):
            layers.insert(0, from_file(file, _FIELDS) if file else Layer({}))
        given = {key: value for layer in layers for key, value in layer.values.items()}
        log = LogSettings()
        for name in LogSettings.model_fields:
            if entry := given.get(f"log.{name}"):
                with suppress(ValidationError):
                    log = LogSettings.model_validate({**log.model_dump(), name: entry.value})
        return log

    def remember(self, given: Mapping[str, Given]) -> Self:
        """Remember the source of each given value, for `source`."""
        self._sources.update((key, value.source) for key, value in given.items())
        return self

    @classmethod
    def specs(cls) -> tuple[SettingSpec, ...]:
        """Return every setting with its variable, type, default and meaning, in order."""
        return tuple(
            SettingSpec(
                key=key,
                env=env_name(key),
                type=type_text(field),
                default=show(field.default, field),
                description=field.description or "",
                is_secret=_is_secret(field),
            )
            for key, field in _FIELDS.items()
        )

    def describe(self) -> tuple[SettingRow, ...]:
        """Return every setting with its value (masked if secret) and the value's source."""
        return tuple(
            SettingRow(
                key=key,
                env=env_name(key),
                value=show(self.value(key), field),
                source=self.source(key),
            )
            for key, field in _FIELDS.items()
        )

    def value(self, key: str) -> Any:
        """Return the value of a setting by its dotted key.

        Raises:
            KeyError: there is no such setting.
        """
        if key not in _FIELDS:
            raise KeyError(key)
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name)

    def source(self, key: str) -> str:
        """Return a value's source: a variable, a line of the file, a flag, or ``default``."""
        return self._sources.get(key, "default")

    @property
    def first_seen_changelog(self) -> str:
        """Changelog topic of the table *first seen*, as Faust names it."""
        return f"{self.kafka.group_id}-first-seen-changelog"

    @property
    def quota_changelog(self) -> str:
        """Changelog topic of the table *quota*, as Faust names it."""
        return f"{self.kafka.group_id}-quota-changelog"

    def topic_names(self) -> dict[str, str]:
        """Return the names of our own topics by role, without the inputs."""
        topics = self.topics
        return {
            "observations": topics.observations,
            "new_terms": topics.new_terms,
            "alerts": topics.alerts,
            "overflow": topics.overflow,
            "dead_letters": topics.dead_letters,
            "first_seen_changelog": self.first_seen_changelog,
            "quota_changelog": self.quota_changelog,
        }


def _config_file(given: Path | None, environ: Mapping[str, str]) -> Path | None:
    if given is None and environ.get(CONFIG_FILE_VARIABLE):
        return Path(environ[CONFIG_FILE_VARIABLE])
    return given


def _fields() -> dict[str, FieldInfo]:
    return {
        f"{section}.{name}": field
        for section, model in Settings.model_fields.items()
        for name, field in type(model.default).model_fields.items()
    }


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in (field.annotation, *get_args(field.annotation))


_FIELDS: dict[str, FieldInfo] = _fields()
_SECRETS = tuple(key for key, field in _FIELDS.items() if _is_secret(field))


def _merge(layers: list[Layer], problems: list[str]) -> dict[str, Given]:
    merged: dict[str, Given] = {}
    for layer in layers:
        values = {
            key: Given(_plain(given.value, _FIELDS[key]), given.source)
            for key, given in layer.values.items()
        }
        for key in _SECRETS:
            spellings = {key, f"{key}_file"} & values.keys()
            # A secret and its file are two ways to give one setting: the later layer wins.
            for spelling in {key, f"{key}_file"} if spellings else ():
                merged.pop(spelling, None)
            if sum(values[spelling].value is not None for spelling in spellings) > 1:
                problems.append(f"{key} and {key}_file are both given: keep one of them")
        merged.update(values)
    for key in _SECRETS:
        file = merged.get(f"{key}_file")
        if file is not None and file.value is not None:
            _read_secret(key, file, merged, problems)
    return merged


def _read_secret(key: str, file: Given, merged: dict[str, Given], problems: list[str]) -> None:
    place = f"{key}_file: {_shorten(str(file.value))!r}"
    try:
        # Editors and `echo` end a file with a line break that does not belong to the secret.
        text = Path(str(file.value)).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        problems.append(f"{place} cannot be read: {error.strerror} (from {file.source})")
        return
    except ValueError:
        problems.append(f"{place} is not UTF-8 text (from {file.source})")
        return
    if not text:
        problems.append(f"{place} is empty (from {file.source})")
        return
    merged[key] = Given(text, f"file {file.value}")


def _build(given: Mapping[str, Given], problems: list[str]) -> Settings | None:
    raw: dict[str, dict[str, object]] = {section: {} for section in Settings.model_fields}
    for key, entry in given.items():
        section, _, name = key.partition(".")
        raw[section][name] = entry.value
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        # Details are read one by one, because the text of the error itself may contain a value.
        for detail in error.errors(include_url=False, include_input=False):
            problems.extend(_explain(detail, given))
        return None


def _plain(value: object, field: FieldInfo) -> object:
    """Bring a value into its field's shape: ``null``, lists in text, no booleans as numbers."""
    arguments = get_args(field.annotation)
    if isinstance(value, bool) and {int, float} & {field.annotation, *arguments}:
        return str(value)  # YAML reads `no` as false, and false would be taken for 0
    if not isinstance(value, str):
        return value
    if value == "null" and type(None) in arguments:
        return None
    return _list_of(value) if Ellipsis in arguments else value


def _list_of(text: str) -> object:
    """Read a list: separated by commas, or as JSON, in which entries may contain commas."""
    if text.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            return tuple(json.loads(text))
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _explain(detail: ErrorDetails, given: Mapping[str, Given]) -> list[str]:
    context = detail.get("ctx", {})
    if detail["type"] == _COMBINATION:
        return [_with_sources(problem, given) for problem in context["problems"]]
    section, name, *rest = (str(part) for part in detail["loc"])
    key = f"{section}.{name}"
    entry = given[key]
    value = entry.value
    if rest and rest[0].isdigit() and isinstance(value, list | tuple):
        value = value[int(rest[0])]
    shown = "the secret" if key in _SECRETS else repr(_shorten(value))
    cause = context.get("error")
    what = str(cause) if cause else detail["msg"].replace("Input should be", "must be", 1)
    if isinstance(value, bool) and detail["type"] == "string_type":
        what = "is what YAML makes of this word: put it in quotes"
    return [f"{key}: {shown} {what} (from {entry.source})"]


def _with_sources(problem: Problem, given: Mapping[str, Given]) -> str:
    sources = dict.fromkeys(given[key].source for key in problem.keys if key in given)
    return f"{problem.text} (from {', '.join(sources)})" if sources else problem.text


def _shorten(value: object) -> object:
    if not isinstance(value, str):
        return value
    # An address written like a URL may contain the password.
    text = _USER_INFO.sub(f"{MASK}@", value)
    return text[:_SHOWN_CHARACTERS] + "…" if len(text) > _SHOWN_CHARACTERS else text


def _message(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return "\n  ".join([f"{len(problems)} settings are wrong:", *problems])
