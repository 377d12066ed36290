"""Whether `firstseen-native` is used: the same as some of our Python does, in less time."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from pipeline.config.settings import Settings
from pipeline.errors import ConfigError

MODULE: Final = "firstseen_native"


def uses_native(settings: Settings) -> bool:
    """Return whether it is used, as `stream.native` says.

    Raises:
        ConfigError: it has to be used, and is not installed.
    """
    if settings.stream.native == "off":
        return False
    installed = find_spec(MODULE) is not None
    if settings.stream.native == "on" and not installed:
        raise ConfigError(
            "stream.native is on, but firstseen-native is not installed: install "
            "firstseen[native], or set stream.native to auto"
        )
    return installed
