"""The match stage as the settings ask for it: the same for the stream and for a backfill."""

from __future__ import annotations

from pipeline.config.native import uses_native
from pipeline.config.settings import Settings
from pipeline.engine.alike import native_reader
from pipeline.engine.decode import DecodeLimits
from pipeline.engine.match import MatchStage
from pipeline.engine.prefilter import Prefilter
from pipeline.engine.verdicts import Verdicts
from pipeline.rules import RuleSet


def decode_limits(settings: Settings) -> DecodeLimits:
    """Return what a record may ask of the decoder."""
    return DecodeLimits(
        max_bytes=settings.stream.max_event_bytes,
        max_depth=settings.stream.max_depth,
        max_documents=settings.stream.max_documents,
        max_values=settings.stream.max_values,
    )


def verdicts_of(settings: Settings, ruleset: RuleSet) -> Verdicts | None:
    """Return what remembers verdicts of the match stage, None where nothing can.

    Raises:
        ConfigError: see `uses_native`.
    """
    if not uses_native(settings):
        return None
    limits = decode_limits(settings)
    reader = native_reader(ruleset, limits, match_index=settings.rules.match_index)
    return None if reader is None else Verdicts(reader, max_bytes=limits.max_bytes)


def match_stage(
    settings: Settings, ruleset: RuleSet, prefilter: Prefilter | None = None
) -> MatchStage:
    """Return the match stage of a rule set under these settings."""
    return MatchStage(
        ruleset,
        limits=decode_limits(settings),
        max_future_ms=round(settings.state.max_future.total_seconds() * 1000),
        prefilter=prefilter,
        match_index=settings.rules.match_index,
        include_event=settings.alerts.include_event,
    )
