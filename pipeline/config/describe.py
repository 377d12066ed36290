"""Settings as people read them: rows for `config show`, `config env` and the reference page."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal, NamedTuple, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from pipeline.config.values import SizeUnit, format_duration, format_size

MASK = "********"
_TYPE_TEXTS: dict[object, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    timedelta: "duration",
    SecretStr: "secret",
}


class SettingSpec(NamedTuple):
    """A setting that exists."""

    key: str
    env: str
    type: str
    default: str
    description: str
    is_secret: bool


class SettingRow(NamedTuple):
    """A setting's value, and where it comes from."""

    key: str
    env: str
    value: str
    source: str


def show(value: object, field: FieldInfo) -> str:
    """Return a value as it would be given in the environment; a secret as asterisks."""
    match value:
        case None:
            text = "null"
        case SecretStr():
            text = MASK
        case bool():
            text = str(value).lower()
        case timedelta():
            text = format_duration(value)
        case tuple():
            text = ",".join(str(part) for part in value)
        case int() if _is_size(field):
            text = format_size(value)
        case _:
            text = str(value)
    return text


def type_text(field: FieldInfo) -> str:
    """Return the type of a setting for people: ``duration``, ``size``, ``a · b · c``."""
    if _is_size(field):
        return "size"
    annotation = field.annotation
    parts = get_args(annotation)
    or_null = " or null" if type(None) in parts else ""
    if Ellipsis in parts:
        return f"list of {'paths' if parts[0] is Path else 'names'}"
    if or_null:
        annotation = next(part for part in parts if part is not type(None))
        # Annotated[X, ...] has X as its first argument.
        annotation = get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation
    if get_origin(annotation) is Literal:
        return " · ".join(str(value) for value in get_args(annotation)) + or_null
    return _TYPE_TEXTS[annotation] + or_null


def _is_size(field: FieldInfo) -> bool:
    return any(isinstance(mark, SizeUnit) for mark in field.metadata)
