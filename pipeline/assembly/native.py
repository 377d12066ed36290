"""Whether to use `firstseen-native`, which does the same as some of our Python, but faster."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from pipeline.config.settings import Settings
from pipeline.errors import ConfigError

MODULE: Final = "firstseen_native"


def uses_native(settings: Settings) -> bool:
    """Return whether to use it, according to `stream.native`.

    Raises:
        ConfigError: it is required, but not installed.
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
