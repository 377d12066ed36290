"""Builds the match stage according to the settings: the same for the stream and for a backfill."""

from __future__ import annotations

from pipeline.assembly.native import uses_native
from pipeline.config.settings import Settings
from pipeline.config.values import milliseconds
from pipeline.engine.alike import native_reader
from pipeline.engine.decode import DecodeLimits
from pipeline.engine.forwarded import ForwardedCache, NativeForwardedCache
from pipeline.engine.match import MatchStage
from pipeline.engine.prefilter import Prefilter
from pipeline.engine.verdicts import CacheSettings, Verdicts
from pipeline.rules import RuleSet


def decode_limits(settings: Settings) -> DecodeLimits:
    """Return the limits of the decoder."""
    return DecodeLimits(
        max_bytes=settings.stream.max_event_bytes,
        max_depth=settings.stream.max_depth,
        max_documents=settings.stream.max_documents,
        max_values=settings.stream.max_values,
    )


def forwarded_cache(settings: Settings) -> ForwardedCache:
    """Return the memory of what was forwarded lately."""
    return ForwardedCache(
        settings.state.forwarded_entries, milliseconds(settings.state.granularity)
    )


def verdicts_of(settings: Settings, ruleset: RuleSet) -> Verdicts | None:
    """Return the cache of the match stage's verdicts; None if there can be none.

    There is none without `firstseen-native`, or if it is not known what the rules read.

    Raises:
        ConfigError: see `uses_native`.
    """
    if not uses_native(settings):
        return None
    limits = decode_limits(settings)
    reader = native_reader(ruleset, limits, match_index=settings.rules.match_index)
    if reader is None:
        return None
    state, defaults = settings.state, CacheSettings()
    return Verdicts(
        ruleset,
        reader,
        NativeForwardedCache(state.forwarded_entries, milliseconds(state.granularity)),
        defaults._replace(
            event_bytes=min(defaults.event_bytes, limits.max_bytes),
            value_bytes=settings.kafka.max_value_bytes,
            future_ms=milliseconds(state.max_future),
        ),
    )


def match_stage(
    settings: Settings, ruleset: RuleSet, prefilter: Prefilter | None = None
) -> MatchStage:
    """Return the match stage for a rule set under these settings."""
    return MatchStage(
        ruleset,
        limits=decode_limits(settings),
        max_future_ms=milliseconds(settings.state.max_future),
        prefilter=prefilter,
        match_index=settings.rules.match_index,
        include_event=settings.alerts.include_event,
    )
