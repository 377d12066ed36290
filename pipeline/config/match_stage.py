"""The match stage as the settings ask for it: the same for the stream and for a backfill."""

from __future__ import annotations

from pipeline.config.settings import Settings
from pipeline.engine.decode import DecodeLimits
from pipeline.engine.match import MatchStage
from pipeline.engine.prefilter import Prefilter
from pipeline.rules import RuleSet


def match_stage(
    settings: Settings, ruleset: RuleSet, prefilter: Prefilter | None = None
) -> MatchStage:
    """Return the match stage of a rule set under these settings."""
    return MatchStage(
        ruleset,
        limits=DecodeLimits(
            max_bytes=settings.stream.max_event_bytes,
            max_depth=settings.stream.max_depth,
            max_documents=settings.stream.max_documents,
            max_values=settings.stream.max_values,
        ),
        max_future_ms=round(settings.state.max_future.total_seconds() * 1000),
        prefilter=prefilter,
        match_index=settings.rules.match_index,
        include_event=settings.alerts.include_event,
    )
