"""What the three agents share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.config import Settings
from pipeline.rules import RuleSet
from pipeline.stream.dead_letters import DeadLetters
from pipeline.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from pipeline.stream.app import App


@dataclass(frozen=True, slots=True)
class Context:
    """The app, and what every stage reads from or counts with.

    Attributes:
        source_ids: the ids of the topics that rows of tables hold offsets of, by name; those that
            brokers give no id are left out.
    """

    app: App
    settings: Settings
    ruleset: RuleSet
    metrics: Metrics
    dead_letters: DeadLetters
    source_ids: Mapping[str, str]
