from __future__ import annotations

import pytest

from pipeline.assembly import native
from pipeline.assembly.native import uses_native
from pipeline.config import Settings
from pipeline.errors import ConfigError


def settings(value: object) -> Settings:
    return Settings.model_validate({"stream": {"native": value}})


@pytest.mark.parametrize(
    ("value", "installed", "used"),
    [("auto", True, True), ("auto", False, False), ("off", True, False), ("on", True, True)],
)
def test_it_is_used_where_it_is_installed_and_not_switched_off(
    value: str, installed: bool, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "find_spec", lambda _: object() if installed else None)

    assert uses_native(settings(value)) is used


def test_to_demand_what_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "find_spec", lambda _: None)

    with pytest.raises(ConfigError, match=r"install firstseen\[native\]"):
        uses_native(settings("on"))


@pytest.mark.parametrize(("value", "meaning"), [(True, "on"), (False, "off"), ("ON", "on")])
def test_the_words_of_yaml_are_understood(value: object, meaning: str) -> None:
    assert settings(value).stream.native == meaning
