"""Settings: what can be set, from which sources, and what is refused."""

from __future__ import annotations

from pipeline.config.describe import SettingRow, SettingSpec
from pipeline.config.kafka import KafkaSettings
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
from pipeline.config.settings import Settings
from pipeline.config.values import format_duration, format_size, parse_duration, parse_size

__all__ = [
    "AlertsSettings",
    "DeadLettersSettings",
    "KafkaSettings",
    "LogSettings",
    "RulesSettings",
    "SettingRow",
    "SettingSpec",
    "Settings",
    "StateSettings",
    "StreamSettings",
    "TopicsSettings",
    "WebSettings",
    "format_duration",
    "format_size",
    "parse_duration",
    "parse_size",
]
